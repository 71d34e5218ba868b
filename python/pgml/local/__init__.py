"""The local instance: a private PostgreSQL and llama.cpp engines, started and stopped for you.

`start()` gives the URL of the instance of the current user, which it starts unless it runs
already; every process of the user shares it until `stop()`. See `home.py` for where it lives,
`supervisor.py` for what keeps it together.

Importing this package is cheap: it loads neither an engine nor a server.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import control, home, models, postgres
from .errors import LocalInstanceError
from .models import DEFAULT_MODEL

__all__ = [
    "DEFAULT_MODEL",
    "LocalInstanceError",
    "ModelStatus",
    "Status",
    "add_model",
    "is_installed",
    "repair",
    "start",
    "status",
    "stop",
    "url",
]

# Longer than a supervisor that has been told to stop may take to do so.
_HANDOVER_PATIENCE = 60.0
_LAUNCHES = 3


@dataclass(frozen=True)
class ModelStatus:
    """A model of the running instance.

    Args:
        name: what callers call it.
        path: its file.
        source: where the file came from.
        pid: its engine's process id; None if it is not served.
        socket: its engine's Unix socket; None if it is not served.
        failure: why it is not served.
    """

    name: str
    path: str
    source: str
    pid: int | None = None
    socket: str | None = None
    failure: str | None = None


@dataclass(frozen=True)
class Status:
    """A running instance.

    Args:
        url: the database, for any Postgres client.
        home: where its files are.
        ready: False while it is still starting.
        supervisor_pid: the process that all others die with.
        postgres_pid: the server's first process.
        models: what it serves.
        versions: of the programs it runs.
    """

    url: str
    home: Path
    ready: bool
    supervisor_pid: int
    postgres_pid: int | None
    models: tuple[ModelStatus, ...]
    versions: dict[str, str]


def is_installed() -> bool:
    """Whether the packages of `pgml[local]` are there; imports none of them."""
    return postgres.is_installed() and importlib.util.find_spec("xllamacpp") is not None


def url() -> str:
    """The URL of this user's instance, whether it runs or not.

    Raises:
        LocalInstanceError: this user, or this machine, cannot have one.
    """
    return home.locate().url()


def start(progress: Callable[[str], None] | None = None) -> str:
    """Start this user's instance unless it runs; processes that do so at once get the same one.

    Args:
        progress: receives a few words about whatever takes longer than a moment.

    Returns:
        The URL of its database.

    Raises:
        LocalInstanceError: it cannot be started; the text says why, and what to do.
    """
    place = home.locate()
    _start(place, progress or _ignore)
    return place.url()


def repair(progress: Callable[[str], None] | None = None) -> str:
    """Start this user's instance, and create again what somebody dropped from its database.

    That is the database itself, the extension, the engines' foreign servers and the models' rows.

    Args:
        progress: as for `start`.

    Returns:
        The URL of its database.

    Raises:
        LocalInstanceError: it cannot be started or repaired; the text says why.
    """
    place = home.locate()
    say = progress or _ignore
    _start(place, say)
    if control.request(place, "repair", say) is None:
        raise LocalInstanceError(
            "the local instance ended while it was being repaired "
            f"(its log: {place.log / 'supervisor.log'})"
        )
    return place.url()


def stop() -> bool:
    """Stop this user's instance, and wait until it is gone.

    Returns:
        Whether one was running.

    Raises:
        LocalInstanceError: it does not answer.
    """
    place = home.locate()
    return place.exists() and control.request(place, "stop", _ignore) is not None


def status() -> Status | None:
    """Describe this user's instance; None if it does not run.

    Raises:
        LocalInstanceError: it does not answer.
    """
    place = home.locate()
    answer = control.request(place, "status", _ignore) if place.exists() else None
    return None if answer is None else _status(place, answer)


def add_model(
    source: str, name: str | None = None, progress: Callable[[str], None] | None = None
) -> str:
    """Serve one more model, now and after every later start; starts the instance if need be.

    Args:
        source: the path of a .gguf file; `package:NAME`, an installed package that holds one; or
            `org/name`, a repository of GGUF files on Hugging Face, optionally with `:Q4_K_M` (a
            quantization) or `:file.gguf` appended.
        name: what to call it; by default the repository's name, or the file's. A name that is
            taken gets the new file.
        progress: receives a few words about whatever takes longer than a moment.

    Returns:
        The model's name.

    Raises:
        LocalInstanceError: the file cannot be had, or is no model that the engine can load.
    """
    say = progress or _ignore
    place = home.locate()
    model = models.resolve(source, name, say)
    _start(place, say)
    arguments = {"name": model.name, "path": str(model.path), "source": model.source}
    if control.request(place, "add", say, **arguments) is None:
        raise LocalInstanceError(
            "the local instance ended while the model was being added "
            f"(its log: {place.log / 'supervisor.log'})"
        )
    return model.name


def _start(place: home.Home, progress: Callable[[str], None]) -> None:
    """Wait for an instance that others are starting, or start one."""
    place.prepare()
    deadline = time.monotonic() + _HANDOVER_PATIENCE
    default: models.Model | None = None
    launched = 0
    while True:
        try:
            if control.request(place, "start", progress) is not None:
                return
        except control.RefusalError:
            # Another's attempt may have failed for reasons that are gone: somebody killed a part
            # of it, say, and this call is the next start, which puts that right.
            if launched:
                raise
        if launched == _LAUNCHES or time.monotonic() > deadline:
            reason = "ended while it started" if launched else f"has {place.lock} locked for long"
            raise LocalInstanceError(
                f"the local instance does not come up: its supervisor {reason} "
                f"(its log: {place.log / 'supervisor.log'})"
            )
        if default is None:
            _require_installed()
            default = models.default(progress)
        if control.launch(place, default):
            launched += 1
        else:
            # Another process's supervisor is about to listen, or one that was stopped is about to
            # end; neither event can be waited for.
            time.sleep(0.05)


def _require_installed() -> None:
    if not is_installed():
        raise LocalInstanceError(
            "the local instance needs packages that are not installed: pip install 'pgml[local]'"
        )


def _status(place: home.Home, answer: dict[str, Any]) -> Status:
    served = tuple(ModelStatus(**model) for model in answer.pop("models"))
    return Status(url=place.url(), home=place.path, models=served, **answer)


def _ignore(_: str) -> None:
    pass
