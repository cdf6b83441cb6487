"""The rules of the house, kept where a machine can keep them. docs/architecture.md says why."""

import ast
import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mixtura

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src" / "mixtura"
MODULES = sorted(SRC.rglob("*.py"))
TEST_FILES = {path.stem for path in (ROOT / "tests").rglob("test_*.py")} | {"conftest"}

# What each floor may stand on; a floor is a module or folder of the package. Arrows only run down this list.
FLOORS: dict[str, set[str]] = {
    "_version": set(),
    "chat": set(),
    "portable": set(),
    "secret": set(),
    "errors": {"portable", "secret"},
    "variables": {"errors", "secret"},
    "virtual": {"limits"},
    "columns": set(),
    "safe_output": {"columns"},
    "forks": set(),
    "open_files": set(),
    "input_files": set(),
    "stderr_stream": set(),
    "interrupts": set(),
    "temporary": set(),
    "ending": set(),
    "loops": {"forks"},
    "places": {"errors", "input_files"},
    "answer_forms": {"errors"},
    "prompts": {"chat"},
    "tokens": {"chat"},
    "kinds": {"prompts"},
    "caller_options": {"chat", "errors"},
    "answer_format": {"chat", "errors"},
    "recipe_checks": set(),
    "slots": {"caller_options", "kinds", "recipe_checks"},
    "recipe": {"errors", "input_files", "recipe_checks", "slots"},
    "decisions": {"recipe"},
    "events": {"answer_forms", "chat", "decisions", "kinds", "recipe"},
    "stored": {"chat", "errors", "events"},
    "folding": {"chat", "events"},
    "limits": {"chat", "ending", "errors", "forks", "loops", "open_files", "places", "portable", "secret"},
    "models.base": {"chat"},
    "models.card": {"chat"},
    "models.place": set(),
    "models.served": {"limits", "models.base", "models.card", "models.place", "secret"},
    "models": {
        *("_version", "chat", "ending", "errors", "forks", "input_files", "limits", "loops", "models.base"),
        *("models.card", "models.place", "models.served", "open_files", "places", "portable", "secret", "temporary"),
        *("tokens", "variables"),
    },
    "keys": {"errors", "models", "places", "secret"},
    "planning": {
        *("caller_options", "chat", "errors", "kinds", "limits", "models.base", "models.card", "models.place"),
        *("models.served", "prompts", "recipe", "tokens"),
    },
    "engine": {
        *("answer_format", "answer_forms", "caller_options"),
        *("chat", "decisions", "errors", "events", "forks", "kinds", "limits", "models.base", "models.card"),
        *("models.place", "models.served", "planning", "prompts", "recipe", "secret", "tokens"),
    },
    "sim": {
        *(
            "chat",
            "errors",
            "hardware",
            "input_files",
            "limits",
            "models.base",
            "models.card",
            "models.catalog",
            "models.openai.sse",
        ),
        "models.recorded",
    },
    "terminal": {"chat", "columns", "decisions", "events", "folding", "safe_output"},
    "hardware": {"errors", "input_files"},
    "mixture": {
        *("answer_format", "caller_options", "chat", "ending", "engine", "errors", "events", "folding"),
        *("forks", "limits", "loops", "models.card", "models.registry", "models.served", "planning"),
        *("portable", "recipe", "recipe_checks", "secret", "variables"),
    },
    "room": {
        *(
            "chat",
            "engine",
            "errors",
            "events",
            "hardware",
            "limits",
            "mixture",
            "models",
            "places",
            "planning",
            "prompts",
            "recipe",
            "tokens",
        ),
    },
    "lab": {"chat", "engine", "events", "mixture", "models", "prompts", "recipe"},
    "__init__": set(),
    "__main__": {"cli", "interrupts"},
    "cli": {"*"},
}
# What a ChatModel, a budget or a listener of a caller's own raises, or a library for a schema that is none, and the
# threads that run what blocks.
# What a limiter raises is caught by `limits/failsafe.py`, a context manager.
# A keyring's backend is a plug-in over D-Bus and the like.
BROAD_EXCEPTS = {
    *("answer_format.py", "engine/calls.py", "engine/start.py", "keys/system.py", "limits/budget/shared_file.py"),
    *("mixture/listeners.py", "models/threads.py", "portable.py"),
}
# Types that a lower floor names and does not import when it runs: an error carries the answer so far.
TYPE_ONLY = {("errors", "chat"), ("errors", "events"), ("answer_forms", "events")}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(SRC).with_suffix("").parts)


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def imports_of(path: Path) -> set[str]:
    """Modules of this package that `path` imports, without the package's name."""
    found: set[str] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "mixtura":
            module = node.module.removeprefix("mixtura").lstrip(".")
            for alias in node.names:
                below = f"{module}.{alias.name}" if module else alias.name
                is_module = (SRC / (below.replace(".", "/") + ".py")).is_file() or (
                    SRC / below.replace(".", "/")
                ).is_dir()
                found.add(below if is_module else module or "__init__")
        elif isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("mixtura.") for alias in node.names if alias.name.startswith("mixtura.")}
    return found


def floor_of(module: str) -> str:
    return module if module in FLOORS else module.split(".")[0]


@pytest.mark.parametrize(
    "path", [path for path in MODULES if path.name != "__init__.py" or path.parent != SRC], ids=name_of
)
def test_arrows_run_down(path: Path) -> None:
    mine = floor_of(name_of(path))
    assert mine in FLOORS, f"{mine} has no floor in FLOORS: decide what it may stand on"
    allowed = FLOORS[mine]
    for module in imports_of(path):
        if (name_of(path), module) in TYPE_ONLY:
            continue
        own = floor_of(module) == mine or module.split(".")[0] == mine.split(".")[0] == "models" != floor_of(mine)
        if own or "*" in allowed:
            continue
        assert module in allowed or floor_of(module) in allowed or module.split(".")[0] in allowed, (
            f"{name_of(path)} imports {module}"
        )


def test_there_is_no_circle_of_imports() -> None:
    graph = {name_of(path).removesuffix(".__init__"): imports_of(path) for path in MODULES}

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join([*trail[trail.index(module) :], module])
        if module not in done:
            for following in graph.get(module, ()):
                if following != module and (module, following) not in TYPE_ONLY:
                    visit(following, (*trail, module))
            done.add(module)

    done: set[str] = set()
    for module in graph:
        if module != "__init__":
            visit(module, ())


def test_the_engine_knows_no_provider_and_no_http() -> None:
    for path in (SRC / "engine").glob("*.py"):
        code = ast.unparse(tree_of(path)).lower()
        strings = [node.value for node in ast.walk(tree_of(path)) if isinstance(node, ast.Constant)]
        assert "aiohttp" not in code
        assert not any(
            isinstance(text, str) and re.search(r"https?://|\bopenai\b", text, re.IGNORECASE) for text in strings
        )


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_files_and_functions_stay_small(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= 400
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, f"{path.name}: {node.name} is too long"
            positional = [arg for arg in (*node.args.posonlyargs, *node.args.args) if arg.arg not in ("self", "cls")]
            # A verb's function takes its options, one parameter each: that is click's way.
            assert node.name == "command" or len(positional) <= 6, f"{path.name}: {node.name} takes too many parameters"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nobody_catches_broadly_but_the_named_places(path: Path) -> None:
    broad = [
        node
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or (isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException")))
        and not any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
    ]
    assert not broad or str(path.relative_to(SRC)) in BROAD_EXCEPTS
    # An `__exit__` that may return True catches as broadly as an `except`.
    swallowing = [
        node
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name in ("__exit__", "__aexit__")
        and not (isinstance(node.returns, ast.Constant) and node.returns.value is None)
    ]
    assert not swallowing or str(path.relative_to(SRC)) == "limits/failsafe.py"


@pytest.mark.parametrize("path", [path for path in MODULES if name_of(path).split(".")[0] != "cli"], ids=name_of)
def test_time_chance_and_environment_are_passed_in(path: Path) -> None:
    code = ast.unparse(tree_of(path))
    assert "global " not in re.sub(r"'[^']*'|\"[^\"]*\"", "", code)
    assert not re.search(r"time\.(monotonic|perf_counter)\(", code)
    assert not re.search(r"\brandom\.(random|choice|shuffle|randint|uniform)\(", code)
    # The edge, where the defaults are taken: the one door, and the registry that it makes.
    if name_of(path) not in (
        *("mixture.__init__", "mixture.composition", "mixture.options", "models.registry", "terminal.__init__"),
    ):
        assert "os.environ" not in code
        assert "time.time(" not in code


def test_no_model_id_price_or_limit_is_a_constant_in_code() -> None:
    from mixtura.models.catalog import Catalog

    ids = {row.id for row in Catalog.load().models()}
    for path in MODULES:
        if name_of(path).split(".")[0] in ("engine", "mixture", "recipe", "events", "chat"):
            strings = {str(node.value) for node in ast.walk(tree_of(path)) if isinstance(node, ast.Constant)}
            docs = ast.get_docstring(tree_of(path)) or ""
            assert not {text for text in strings & ids if text not in docs}


def test_the_public_names_are_what_can_be_imported() -> None:
    assert sorted(mixtura.__all__) == sorted(set(mixtura.__all__))
    for name in mixtura.__all__:
        assert getattr(mixtura, name) is not None
    assert set(dir(mixtura)) == set(mixtura.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = mixtura.nonsense  # type: ignore[attr-defined]  # a type checker refuses it too


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, mixtura; print(sorted({'aiohttp', 'asyncio', 'msgspec', 'click', 'ssl'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_version_heads_the_changelog() -> None:
    first = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert first is not None
    assert first[1] == mixtura.__version__


def test_the_architecture_page_names_every_part() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    parts = {floor for floor in FLOORS if not floor.startswith("_")} | {
        path.stem for path in (SRC / "engine").glob("[a-z]*.py")
    }
    missing = [part for part in sorted(parts) if part.split(".")[-1] not in page]
    assert not missing


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("*.py")), ids=lambda path: path.stem)
def test_what_tests_share_is_in_a_module_that_says_what_it_is(path: Path) -> None:
    imported = {node.module for node in ast.walk(tree_of(path)) if isinstance(node, ast.ImportFrom) and node.module}
    imported |= {alias.name for node in ast.walk(tree_of(path)) if isinstance(node, ast.Import) for alias in node.names}
    assert not [name for name in imported if name.split(".")[-1] in TEST_FILES]


def test_the_walk_from_a_question_to_an_answer_names_what_there_is() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    steps = re.findall(r"^\d+\. `([\w/]+\.py)`: `([\w.]+)`", page, re.MULTILINE)
    assert 8 <= len(steps) <= 12
    assert len(steps) == len(re.findall(r"^\d+\. `", page, re.MULTILINE))
    for file, name in steps:
        inside: list[ast.stmt] = tree_of(SRC / file).body
        for part in name.split("."):
            found = [node for node in inside if getattr(node, "name", None) == part]
            assert found, f"{file} has no {name}"
            inside = getattr(found[0], "body", [])
