"""Model files from Hugging Face, through `huggingface_hub` and its cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from .errors import LocalInstanceError

# What to take if the caller has no wish: small, and hardly worse than the original.
_PREFERRED = ("Q4_K_M", "Q4_K_S", "Q4_0", "Q4_1", "Q5_K_M", "Q8_0")


def fetch(repository: str, choice: str | None, progress: Callable[[str], None]) -> Path:
    """The local copy of a repository's GGUF file, downloaded unless the cache has it.

    `huggingface_hub` draws its own progress bar.

    Args:
        repository: `org/name`.
        choice: a file of the repository, or a quantization such as `Q4_K_M`.
        progress: told before a download.

    Raises:
        LocalInstanceError: the repository or the file is missing, or cannot be reached.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        raise LocalInstanceError(
            f"fetching {repository} needs the package huggingface_hub: pip install 'pgml[local]'"
        ) from error
    try:
        if choice is not None and choice.endswith(".gguf"):
            name = choice
        else:
            name = choose(repository, _list(repository), choice)
        progress(f"fetching {name} of {repository} from Hugging Face")
        # The type of the progress bar's class, an argument, is tqdm's to know, and it has none.
        path = huggingface_hub.hf_hub_download(  # pyright: ignore[reportUnknownMemberType]
            repository, name
        )
        return Path(path)
    except LocalInstanceError:
        raise
    # The hub's client raises its own errors, its HTTP library's and OSError; to the user each of
    # them means that the file did not come, and the remedies are the same.
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise LocalInstanceError(
            f"cannot fetch the model {repository} from Hugging Face: {reason} "
            "(check the name and the network, set HF_TOKEN for a repository that needs it, or add "
            "a .gguf file by its path)"
        ) from error


def choose(repository: str, files: Sequence[str], quantization: str | None) -> str:
    """Pick the file to load out of a repository's.

    Args:
        repository: for messages.
        files: the paths in it.
        quantization: the one that the caller wants, if any.

    Raises:
        LocalInstanceError: nothing fits.
    """
    models = sorted(
        file
        for file in files
        # A projector for pictures and an importance matrix are GGUF files too, but not models.
        if file.endswith(".gguf") and not PurePosixPath(file).name.startswith(("mmproj", "imatrix"))
    )
    if not models:
        raise LocalInstanceError(
            f"the repository {repository} holds no GGUF file, the one format that the local engine "
            "loads: look for one of the same model whose name ends in GGUF"
        )
    for wanted in [quantization] if quantization else _PREFERRED:
        for model in models:
            if _ends_in(model, wanted):
                return model
    if quantization:
        raise LocalInstanceError(
            f"the repository {repository} has no {quantization}; it has: {', '.join(models)}"
        )
    return models[0]


def _ends_in(file: str, quantization: str) -> bool:
    """Whether a file's name ends in the quantization, as a word of its own."""
    stem = PurePosixPath(file).stem.lower()
    wanted = quantization.lower()
    return stem == wanted or stem.endswith((f"-{wanted}", f".{wanted}", f"_{wanted}"))


def _list(repository: str) -> list[str]:
    import huggingface_hub

    try:
        return huggingface_hub.HfApi().list_repo_files(repository)
    except Exception:
        # Offline, what was fetched before still serves.
        try:
            cached = Path(
                huggingface_hub.snapshot_download(  # pyright: ignore[reportUnknownMemberType]
                    repository, allow_patterns=["*.gguf"], local_files_only=True
                )
            )
        except Exception:
            cached = None
        files = [str(file.relative_to(cached)) for file in cached.rglob("*.gguf")] if cached else []
        if not files:
            raise
        return files
