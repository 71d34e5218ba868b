"""Tools around the openai package, on our client: docs/tools-around.md, run with the real packages.

`make test-tools` runs this with the packages of the dependency group `tools`. Without them, as in
.venv, where not all of them go together with what is there, there is nothing to run.
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from engine import Engine, answer
from pgml import local

PAGE = (Path(__file__).parents[1] / "docs" / "tools-around.md").read_text()
SECTIONS = dict(re.findall(r"^## ([^\n]+)\n.*?```python\n(.*?)```", PAGE, re.MULTILINE | re.DOTALL))
NEEDED = {
    "Structured answers by instructor": "instructor",
    "LangSmith": "langsmith",
    "OpenTelemetry": "opentelemetry.sdk",
    "LangChain": "langchain_core",
    "pydantic-ai": "pydantic_ai",
    "DSPy": "dspy",
}


# Of these packages among themselves.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def is_there(package: str) -> bool:
    # A namespace such as opentelemetry is there without the part that is needed.
    return find_spec(package.split(".")[0]) is not None and find_spec(package) is not None


def test_the_page_has_these_sections() -> None:
    assert SECTIONS.keys() == NEEDED.keys()


@pytest.fixture
def run(engine: Engine, database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Any:
    """Run a section of the page, and return its variables, its output and what the engine got."""
    monkeypatch.setenv("DATABASE_URL", database_url)

    def go(title: str) -> tuple[dict[str, Any], str, Any]:
        if not is_there(NEEDED[title]):
            pytest.skip(f"{NEEDED[title]} is not installed")
        code = SECTIONS[title].replace(local.DEFAULT_MODEL, "scripted")
        exchange = engine.expect(answer('{"name": "fig"}'))
        names: dict[str, Any] = {}
        exec(compile(code, f"docs/tools-around.md: {title}", "exec"), names)
        return names, capsys.readouterr().out, exchange

    return go


def test_instructor(run: Any) -> None:
    names, printed, _ = run("Structured answers by instructor")
    assert printed == "fig\n"
    assert names["fruit"].name == "fig"


def test_langsmith(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if is_there("langsmith"):
        from langsmith import run_trees

        seen: list[Any] = []
        monkeypatch.setenv("LANGSMITH_TRACING", "true")
        monkeypatch.setenv("LANGSMITH_API_KEY", "none")
        # Nothing may leave this machine.
        monkeypatch.setenv("LANGSMITH_ENDPOINT", "http://127.0.0.1:1")
        monkeypatch.setattr(run_trees.RunTree, "post", lambda self, *_, **__: seen.append(self))
        monkeypatch.setattr(run_trees.RunTree, "patch", lambda self, *_, **__: None)
    _, printed, _ = run("LangSmith")
    assert "fig" in printed
    (made,) = seen
    assert made.run_type == "llm"
    assert made.outputs["choices"][0]["message"]["content"] == '{"name": "fig"}'


def test_opentelemetry(run: Any) -> None:
    if is_there("opentelemetry.sdk"):
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        spans = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(spans))
        trace.set_tracer_provider(provider)
    _, printed, exchange = run("OpenTelemetry")
    assert "fig" in printed
    (span,) = spans.get_finished_spans()
    assert span.name == "chat scripted"
    assert span.attributes["gen_ai.usage.output_tokens"] == 2
    # The engine's own spans are of the same trace.
    trace_id = format(span.context.trace_id, "032x")
    assert exchange.headers["traceparent"].split("-")[1] == trace_id


@pytest.mark.parametrize("title", ["LangChain", "pydantic-ai", "DSPy"])
def test_agents(run: Any, title: str) -> None:
    _, printed, exchange = run(title)
    assert printed == '{"name": "fig"}\n'
    assert exchange.body["messages"][-1]["content"] == "Name a fruit."
