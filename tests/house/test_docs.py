"""The documents cannot lie: programs and commands in them run, links lead somewhere, tables are what the code says."""

import ast
import asyncio
import contextlib
import importlib.util
import inspect
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from bench.tutorial import recorded, speed, wire
from bench.tutorial.__main__ import markdown
from bench.tutorial.asking import QUESTION, Measurement, measure_virtually

from mixtura import Answer, MixturaError, Mixture, Recipe, errors, events, recipe_names
from mixtura.planning.schedule import count_calls
from mixtura.recipe import Aggregator, Layer, Policy, Proposer, Tools
from mixtura.sim import SimOptions, faults, simulated_cloud
from pages import DOCS, FENCE, PAGES, ROOT, Block, blocks, name_of, table
from resources import recorded_data

LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)\s]+)\)")
MOST_NOT_RUN = 4  # fences that need a real key, or do not end


@pytest.fixture(scope="module")
def cloud() -> Iterator[str]:
    """Serve a simulated cloud in a thread, for programs that bring a loop of their own and for commands."""
    started: list[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = []
    ready = threading.Event()

    async def main() -> None:
        async with simulated_cloud(SimOptions(unlimited=True, tokens=30)) as running:
            stop = asyncio.Event()
            started.append((running.url, asyncio.get_running_loop(), stop))
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    assert ready.wait(10)
    url, loop, stop = started[0]
    yield url
    loop.call_soon_threadsafe(stop.set)
    thread.join()


@pytest.fixture
def place(cloud: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a folder of the page's own, where keys and addresses are those of the simulated cloud."""
    monkeypatch.chdir(tmp_path)
    for name in ("GROQ", "OPENAI"):
        monkeypatch.setenv(f"{name}_API_KEY", "gsk_simulated")
    monkeypatch.setenv("GROQ_BASE_URL", cloud)
    monkeypatch.setenv("OPENAI_BASE_URL", f"{cloud}/openai/v1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("MIXTURA_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def commands(block: Block) -> Iterator[tuple[str, int]]:
    """Give each command of a console block and the exit status it is said to end with."""
    for line in block.body.replace("\\\n", " ").splitlines():
        if line.startswith("$ "):
            said = re.search(r"\s+# exit (\d+)\s*$", line)
            yield line[2 : said.start() if said else None], int(said[1]) if said else 0


def run_command(command: str, status: int, where: str) -> None:
    if not command.startswith(("mixtura ", "python ")) and "| mixtura " not in command:
        return
    if bench := re.match(r"python -m (bench\S*)", command):
        assert importlib.util.find_spec(bench[1]), f"{where}: no module {bench[1]}"
        return  # benchmarks take their time; they are held to their pages elsewhere
    done = subprocess.run(
        command, shell=True, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=50, check=False
    )
    assert done.returncode == status, f"{where}: {command}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr, f"{where}: {command}\n{done.stderr}"


def run_program(block: Block, page: Path, namespace: dict[str, Any], runner: asyncio.Runner) -> None:
    source = "\n" * (block.line - 1) + block.body
    code = compile(source, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if code.co_flags & inspect.CO_COROUTINE:

        async def main() -> None:
            await eval(code, namespace)

        runner.run(main())
    else:
        exec(code, namespace)


# The steps of CONTRIBUTING.md change the project: test_contributing.py carries them out in a copy.
@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CONTRIBUTING.md"], ids=name_of)
def test_programs_and_commands_run_in_order(page: Path, place: Path) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    with asyncio.Runner() as runner, ThreadPoolExecutor(4) as pool, contextlib.redirect_stdout(None):
        for block in blocks(page):
            where = f"{name_of(page)}:{block.line}"
            if block.language == "python" and block.runs:
                run_program(block, page, namespace, runner)
            if block.language == "console" and block.runs:
                # The commands of one block do not build on each other, and mostly wait for simulated models.
                for done in [pool.submit(run_command, *said, where) for said in commands(block)]:
                    done.result()


def test_hardly_anything_is_left_out_of_running() -> None:
    skipped = [f"{name_of(page)}:{block.line}" for page in PAGES for block in blocks(page) if not block.runs]
    assert len(skipped) <= MOST_NOT_RUN, skipped


def test_fences_say_what_they_hold() -> None:
    for page in PAGES:
        for block in blocks(page):
            known = {"python", "console", "toml", "json", "text", "sh"}
            assert block.language in known, f"{name_of(page)}:{block.line}: ```{block.language}"


def anchors(page: Path) -> set[str]:
    text = FENCE.sub("", page.read_text("utf-8"))
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_inside_the_project_leads_somewhere(page: Path) -> None:
    for found in LINK.finditer(FENCE.sub("", page.read_text("utf-8"))):
        target, _, anchor = found["target"].partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), f"{name_of(page)}: {found[0]}"
        if anchor:
            assert anchor in anchors(file), f"{name_of(page)}: {found[0]}"


def test_the_page_of_recipes_lists_every_one_as_it_is() -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "mixtura", "recipes"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    shapes = {
        name.split(":")[0]: shape.split(": ", 1)[1] for name, shape in zip(listed[::2], listed[1::2], strict=True)
    }
    rows = table("recipes.md", "## Which one")
    assert [row[0] for row in rows] == [f"[`{name}`](#{name})" for name in recipe_names()]
    text = (DOCS / "recipes.md").read_text("utf-8")
    for name, row in zip(recipe_names(), rows, strict=True):
        most = Mixture(name, env={"GROQ_API_KEY": "gsk_x"}).forecast(QUESTION)
        assert row[1:3] == [str(count_calls(Recipe.named(name))), f"${most.cost:.4f}"]
        assert f"\n### {name}\n\n`{shapes[name]}`\n" in text


@pytest.mark.parametrize("part", [Recipe, Layer, Proposer, Aggregator, Tools, Policy], ids=lambda part: part.__name__)
def test_the_page_of_recipes_names_every_field_with_its_default(part: type[msgspec.Struct]) -> None:
    rows = {row[0].strip("`"): row[2].strip("`") for row in table("recipes.md", f"### {part.__name__}")}
    fields = msgspec.structs.fields(part)
    assert list(rows) == [field.name for field in fields]
    for field in fields:
        if field.default is not msgspec.NODEFAULT:
            default = field.default
        elif field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        else:
            assert rows[field.name] == "required"
            continue
        said = "none" if default is None else msgspec.json.encode(default).decode()
        assert rows[field.name] == ("all defaults" if isinstance(default, Policy | Tools) else said), field.name


def test_the_library_page_names_every_event_error_and_field_of_the_answer() -> None:
    said = {row[0].strip("`"): re.findall(r"`(\w+)`", row[1]) for row in table("library.md", "## Streaming")}
    for kind in get_args(events.Event):
        assert said.pop(kind.__name__) == [
            field.name for field in msgspec.structs.fields(kind) if field.name not in ("at", "unknown")
        ]
    assert not said
    fields = [name for row in table("library.md", "## The answer") for name in re.findall(r"`(\w+)`", row[0])]
    assert set(fields) == set(Answer.__struct_fields__)
    rows = {row[0].strip("`"): row[1] for row in table("library.md", "## Errors")}
    kinds = {
        name: kind for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, MixturaError)
    }
    assert set(rows) == set(kinds)
    for name, kind in kinds.items():
        code: object = kind.exit_code
        assert rows[name] == (str(code) if isinstance(code, int) else "that of its first failure"), name


def test_the_simulators_page_names_every_option_and_fault() -> None:
    options = {row[0].strip("`"): row[1].strip("`") for row in table("simulator.md", "## Options")}
    assert list(options) == list(SimOptions.__struct_fields__)
    for field in msgspec.structs.fields(SimOptions):
        default = getattr(SimOptions(), field.name)
        said = options[field.name].replace('"', "'")
        assert said == (str(default) if field.name == "as_of" else repr(default)), field.name
    text = (DOCS / "simulator.md").read_text("utf-8")
    kinds = {
        kind
        for group in (faults.RefusalKind, faults.BrokenTransferKind, faults.OddReplyKind)
        for kind in get_args(group)
    }
    listed = text[text.index("The kinds:") : text.index("What a value means")]
    assert set(re.findall(r"`(\w+)`", listed)) == kinds


def test_every_dependency_has_its_reason() -> None:
    named_ones = {row[0].strip("`") for row in table("dependencies.md", "## At run time")}
    named_ones |= {row[0].strip("`") for row in table("dependencies.md", "## For development only")}
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    declared = re.findall(r'^  "([a-z-]+)[>=<]', project, re.MULTILINE)
    assert named_ones == set(declared)


def said_rows() -> dict[str, list[str]]:
    return {row[0]: row[1:] for row in table("from-the-tutorial.md", "## What was measured")}


def same(measured: str, said: str) -> bool:
    """Whether two texts have the same words, and figures within 15 %: a change of a prompt moves them a little."""
    number = re.compile(r"\d[\d,]*\.?\d*")
    if number.sub("0", measured) != number.sub("0", said):
        return False
    pairs = zip(number.findall(measured), number.findall(said), strict=True)
    values = [(float(one.replace(",", "")), float(other.replace(",", ""))) for one, other in pairs]
    return all(abs(one - other) <= max(0.15 * abs(other), 0.05) for one, other in values)


@pytest.mark.slow
@pytest.mark.parametrize(
    "measure", [*wire.MEASUREMENTS, *speed.VIRTUAL], ids=lambda one: getattr(one, "__name__", "proposers")
)
def test_what_the_tutorials_page_says_is_what_is_measured(measure: Measurement) -> None:
    row = measure_virtually(measure)
    assert row.claim in said_rows(), "run: python -m bench.tutorial --write"
    said, verdict = said_rows()[row.claim]
    assert same(row.measured, said), f"{row.measured}\nrun: python -m bench.tutorial --write"
    assert row.verdict == verdict


@pytest.mark.slow
def test_what_the_tutorials_page_says_of_recordings_is_what_they_give() -> None:
    for name in ("recordings/gsm8k-dev.jsonl.gz", "recordings/crux-dev.jsonl.gz", "hardware/gpu_serving_dev.csv.gz"):
        recorded_data(name)
    rows, missing = recorded.rows()
    assert not missing
    gpus = speed.gpus()
    assert gpus is not None
    rows.append(gpus)
    for line in markdown(rows).splitlines()[2:]:
        assert line in (DOCS / "from-the-tutorial.md").read_text("utf-8"), "run: python -m bench.tutorial --write"
