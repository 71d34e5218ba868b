"""What is measured: which peer is told to do what, and how much of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import engine
from pgml import local
from world import World

Result = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """A measurement that every peer of it makes.

    Args:
        peers: who makes it.
        job: what they are told, given the world and who it is.
        program: in place of the peer's own.
    """

    peers: Sequence[str]
    job: Callable[[World, str], dict[str, Any]]
    program: str | None = None


@dataclass(frozen=True)
class Size:
    """How much of everything: enough to be exact, or little enough to be quick."""

    rounds: int = 3
    seconds: float = 1.0
    pieces: int = 10_000
    paced_pieces: int = 200
    firsts: int = 60
    imports: int = 7
    streams: int = 1000
    stream_pieces: int = 500
    real_tokens: int = 64


QUICK = Size(1, 0.4, 5_000, 100, 20, 3, 1000, 200, 32)


def scripted(model: str) -> dict[str, Any]:
    """What a program has to know about an answer of the scripted engine."""
    pieces, sha = engine.expected(model)
    length = sum(map(len, engine.pieces(pieces)))
    return {"model": model, "pieces": pieces, "sha": sha, "length": length}


def runs(size: Size, profile: str | None) -> dict[str, Run]:
    """All measurements, by name."""

    def job(task: str, face: str, model: str, **more: Any) -> Callable[[World, str], Result]:
        said = scripted(model)
        return lambda world, peer: {
            "task": task,
            "face": face,
            "url": world.url,
            "base_url": world.base_url,
            "published": peer == "pgml 1.1.1",
            "seconds": size.seconds,
            **said,
            **more,
        }

    def far(task: str, model: str, **more: Any) -> Callable[[World, str], Result]:
        near = job(task, "sync", model, **more)
        # The engine itself is asked from nearby: its time is its own.
        return lambda world, peer: {
            **near(world, peer),
            "url": world.far_url,
            "base_url": world.base_url if peer == "engine" else world.far_base_url,
        }

    speed = f"chunks={size.pieces}"
    paced = f"chunks={size.paced_pieces},pace=10"
    first = "chunks=4,pace=1"
    short = "chunks=16"

    def many(world: World, _: str) -> Result:
        models = {
            "short": short,
            "held": f"chunks=40,hold={size.streams}",
            "paced": "chunks=40,pace=50",
            "long": f"chunks={size.stream_pieces}",
        }
        shas = {f"{name}_sha": engine.expected(model)[1] for name, model in models.items()}
        return {"url": world.url, "streams": size.streams, "half": 20, **models, **shas}

    def backend(world: World, _: str) -> Result:
        return {
            "url": world.url,
            "seconds": size.seconds,
            "full": speed,
            "full_pieces": size.pieces,
            "paced": "chunks=500,pace=2",
            "paced_pieces": 500,
            "profile": profile,
        }

    def real(world: World, peer: str) -> Result:
        subjects = ("the sea", "a dog", "bread", "rain", "a train", "the moon", "glass", "a garden")
        requests = [
            {
                "messages": [{"role": "user", "content": f"Write a long story about {subject}."}],
                "max_tokens": size.real_tokens,
                "temperature": 0.0,
                "extra_body": {"ignore_eos": True, "cache_prompt": False},
            }
            for subject in subjects
        ]
        return {
            "task": "together",
            "face": "async",
            "url": world.url,
            "base_url": "http://localhost/v1",
            "socket": world.socket,
            "published": False,
            "model": local.DEFAULT_MODEL,
            "requests": requests,
        }

    databases = ("pgml", "psycopg", "asyncpg")
    # Their rate varies more than those of streams.
    long = {"seconds": 3 * size.seconds}
    return {
        "stream": Run(("pgml", "pgml 1.1.1", "openai", "psycopg"), job("stream", "sync", speed)),
        "stream-block": Run(("openai",), job("stream", "sync", f"{speed},framing=block")),
        "attributes": Run(("pgml", "openai"), job("attributes", "sync", speed)),
        "stream-async": Run(
            ("pgml", "pgml 1.1.1", "openai", "psycopg", "asyncpg"), job("stream", "async", speed)
        ),
        "far": Run(
            ("pgml", "pgml 1.1.1", "openai", "psycopg", "engine"),
            far("total", paced, warm_up=first),
        ),
        "first": Run(
            ("pgml", "openai", "psycopg", "engine"), job("first", "sync", first, times=size.firsts)
        ),
        "first-far": Run(
            ("pgml", "psycopg", "engine"), far("first", first, times=max(10, size.firsts // 3))
        ),
        "round-trip": Run(("psycopg",), far("ping", first, times=20)),
        "complete": Run(
            ("pgml", "psycopg", "openai"), job("complete", "sync", short, concurrent=1, **long)
        ),
        "complete-64": Run(
            (*databases, "openai"), job("complete", "async", short, concurrent=64, **long)
        ),
        "complete-1-async": Run(databases, job("complete", "async", short, concurrent=1, **long)),
        "many": Run(("pgml",), many, "many"),
        "import": Run(
            ("pgml", "pgml 1.1.1", "openai"),
            lambda _, peer: {"module": peer.split()[0]},
            "imports",
        ),
        "backend": Run(("psycopg",), backend, "backend"),
        "real": Run(("pgml", "openai", "engine"), real),
    }
