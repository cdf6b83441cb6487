"""Write the API reference, docs/reference/*.md, from the docstrings of the source.

    python -m docs_tools.reference            # write the pages
    python -m docs_tools.reference --check    # exit 1 if they are not what the source says

The source is read and not imported, so the pages are the same whatever Python writes them.
"""

import logging
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import griffe

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "reference"
MODULES = ("chat", "events", "answer_forms", "decisions", "recipe", "errors", "stored", "sim", "virtual")
"""Modules with a page of their own; what `mixtura` exports from elsewhere stands on the page of `mixtura`."""
NAMED_IN_SIGNATURES = {"mixture": ("AskOptions", "Question"), "planning.forecast": ("ForecastRow",)}
"""Names of other modules that stand on the page of `mixtura`, since its signatures and fields name them."""
COLLECTIONS: dict[str, tuple[str, dict[str, tuple[str, ...]]]] = {
    "mixtura.keys": (
        "API keys that `mixtura keys` keeps, for a program that asks. See [stored keys](../library.md#stored-keys).",
        {"keys": ("StoredKeys", "hint", "with_stored_keys")},
    ),
    "mixtura.engine.answers": (
        "Final answers of texts: where they stand, what they are, when two are the same. See [answers](../answers.md).",
        {
            "engine.answers": (
                *("Formula", "Found", "Literal", "Number", "Options", "Text", "alike", "find", "groups", "is_right"),
                "same",
            )
        },
    ),
    "mixtura.lab": (
        "Does a mixture help? Statistics of right and wrong answers.",
        {"lab.statistics": ("PairedTest", "exact_p", "mcnemar", "p_in_words", "wilson")},
    ),
    "mixtura.models": (
        "Parts of the models' side that a program may use: the catalogue, files of predictions, model files.",
        {
            "models.catalog": ("CatalogModel", "CatalogProvider", "parse_models", "read_models"),
            "models.predictions": ("predictions_toml", "read_predictions"),
            "models.local.provider": ("local_model",),
            "models.wrappers.retry": ("RetryPolicy", "Retrying"),
        },
    ),
    "mixtura.planning": (
        "What a run of a recipe may ask for, before anything is sent.",
        {"planning.schedule": ("PlannedCall", "Schedule", "count_calls", "schedule")},
    ),
    "mixtura.limits": (
        "Rate limits and the day's budget, for a program that hands in its own. See [limits](../limits.md).",
        {
            "limits.limiter": ("Limiter",),
            "limits.store": ("WindowStore",),
            "limits.memory": ("MemoryStore",),
            "limits.redis.store": ("RedisStore",),
            "limits.budget.base": ("DailyBudget",),
            "limits.budget.stores": ("RedisBudget", "SqliteBudget"),
        },
    ),
    "mixtura.room": (
        "Mixtures on machines, from a program; needs `pip install 'mixtura[room]'`. See [plans](../plan.md).",
        {
            "room.plan.advice": ("DeploymentAdvice", "advise"),
            "room.plan.option": ("DeploymentOption", "DeploymentRequest", "PlanningContext", "RateAllowance"),
            "room.plan.machines": ("PlacementSpec", "read_spec"),
            "room.predictions": ("predictions",),
        },
    ),
}
"""Pages that collect the public names of several modules; each name says where it is imported from."""

_WIDTH = 100  # columns of a signature before it is broken into lines
_TREE = re.compile(r"^[├└│]")


class Entry(NamedTuple):
    """One documented name: the module that a program imports it from, and what the source says of it."""

    home: str
    told: griffe.Object


class Page(NamedTuple):
    """One page: its file, the module it documents, the module's docstring, and the names on it in order."""

    file: str
    module: str
    intro: str
    names: dict[str, Entry]


def load() -> griffe.Module:
    """Return the package as its source says it."""
    # Griffe warns about arguments without a type in a docstring; types stand in the signatures here.
    logging.getLogger("griffe").setLevel(logging.ERROR)
    package = griffe.load("mixtura", search_paths=[ROOT / "src"], allow_inspection=False, resolve_aliases=True)
    assert isinstance(package, griffe.Module)
    return package


def pages(package: griffe.Module) -> list[Page]:
    """Return every page of the reference; the one of `mixtura` comes first."""
    found = []
    for name in MODULES:
        names = {public: Entry(f"mixtura.{name}", told) for public, told in _public(package[name])}
        found.append(Page(f"{name}.md", f"mixtura.{name}", _doc(package[name]), names))
    elsewhere = {entry.told.canonical_path for page in found for entry in page.names.values()}
    top = {name: Entry("mixtura", told) for name, told in _public(package) if told.canonical_path not in elsewhere}
    collections = [
        Page(f"{title.rpartition('.')[2]}.md", title, intro, _collect(package, names))
        for title, (intro, names) in COLLECTIONS.items()
    ]
    return [
        Page("mixtura.md", "mixtura", _doc(package), top | _collect(package, NAMED_IN_SIGNATURES)),
        *found,
        *collections,
    ]


def documented(package: griffe.Module) -> set[tuple[str, str]]:
    """Return the module and name of everything that a document may import."""
    exported = {("mixtura", str(name)) for name in package.exports or ()}
    return exported | {(entry.home, name) for page in pages(package) for name, entry in page.names.items()}


def _collect(package: griffe.Module, names: Mapping[str, Iterable[str]]) -> dict[str, Entry]:
    return {
        name: Entry(f"mixtura.{module}", _target(package[f"{module}.{name}"]))
        for module, some in names.items()
        for name in some
    }


def _public(module: griffe.Object) -> Iterator[tuple[str, griffe.Object]]:
    """Give the public names of `module`: those of `__all__`, else what is defined in it."""
    if module.exports is not None:
        for export in sorted(str(name) for name in module.exports):
            if not export.startswith("__"):
                yield export, _target(module[export])
        return
    for name, member in module.members.items():
        if not name.startswith("_") and not member.is_alias and not member.is_module and not _is_type_variable(member):
            yield name, _target(member)


def _target(member: griffe.Object | griffe.Alias) -> griffe.Object:
    found = member.final_target if isinstance(member, griffe.Alias) else member
    assert isinstance(found, griffe.Object)
    return found


def _is_type_variable(member: griffe.Object | griffe.Alias) -> bool:
    return str(getattr(member, "value", "")).startswith(("TypeVar(", "TypeVarTuple("))


def _doc(one: griffe.Object | griffe.Alias) -> str:
    return one.docstring.value if one.docstring else ""


def written(package: griffe.Module) -> dict[str, str]:
    """Return the text of every page by its file name, the list of all names (index.md) included."""
    all_pages = pages(package)
    texts = {page.file: render(page) for page in all_pages}
    texts["index.md"] = index(package, all_pages)
    return texts


def index(package: griffe.Module, all_pages: Sequence[Page]) -> str:
    """Return the page that lists every page, and every name that `mixtura` exports."""
    homes = {entry.told.canonical_path: (page, name) for page in all_pages for name, entry in page.names.items()}
    rows = []
    for export in sorted((str(name) for name in package.exports or ()), key=str.lower):
        if not export.startswith("__"):
            page, name = homes[_target(package[export]).canonical_path]
            rows.append(
                f"| [`{export}`]({page.file}#{name.lower()}) | {_cell(_first_sentence(page.names[name].told))} |"
            )
    listed = [f"- [`{page.module}`]({page.file}): {_one_line(page.intro)}" for page in all_pages]
    return "\n".join(
        [
            *("# API reference", ""),
            "Written from the docstrings by `make reference`; do not edit these pages.",
            "[The library](../library.md) explains how the parts are used together.",
            *("", "## Modules", "", *listed, "", "## Names that `mixtura` exports", ""),
            *("| name | what it is |", "|---|---|", *rows, ""),
        ]
    )


def render(page: Page) -> str:
    """Return the text of one page."""
    parts = [f"# `{page.module}`", _prose(page.intro)]
    for name, entry in page.names.items():
        title, _, body = _named(name, entry.told).partition("\n\n")
        parts += [title, "" if entry.home == page.module else f"`from {entry.home} import {name}`", body]
    return "\n\n".join(part for part in parts if part) + "\n"


def _named(name: str, one: griffe.Object) -> str:
    if isinstance(one, griffe.Class):
        return _class(name, one)
    if isinstance(one, griffe.Function):
        return "\n\n".join([f"## {name}", _signature(name, one), *_sections(one)])
    source = textwrap.dedent(one.source.rstrip())
    return "\n\n".join([f"## {name}", f"```python\n{source}\n```", *_sections(one)])


def _class(name: str, one: griffe.Class) -> str:
    bases = ", ".join(str(base) for base in one.bases if not str(base).startswith("_"))
    constructor = one.members.get("__init__")
    if isinstance(constructor, griffe.Function):
        head = _signature(name, constructor, "class ")
    else:
        head = f"```python\nclass {name}({bases})\n```" if bases else f"```python\nclass {name}\n```"
    parts = [f"## {name}", head]
    if bases and isinstance(constructor, griffe.Function):
        parts.append(f"Inherits from `{bases}`.")
    fields = dict(_fields(one))
    parts += _sections(one, skip_attributes=bool(fields))
    if fields:
        parts.append(_field_table(fields, _attribute_texts(one)))
    for member_name, member in one.members.items():
        if not member_name.startswith("_") and isinstance(member, griffe.Function):
            parts += [f"### {name}.{member_name}", _signature(member_name, member), *_sections(member)]
    return "\n\n".join(parts)


def _fields(one: griffe.Class) -> Iterator[tuple[str, griffe.Attribute]]:
    """Give the public attributes of a class: those of its private bases first, its own after them."""
    for base in one.bases:
        parent = one.module.members.get(str(base)) if str(base).startswith("_") else None
        if isinstance(parent, griffe.Class):
            yield from _fields(parent)
    for name, member in one.members.items():
        # What a constructor assigns without an annotation is not declared as part of the interface.
        if isinstance(member, griffe.Attribute) and not name.startswith("_") and (member.annotation or member.value):
            yield name, member


def _attribute_texts(one: griffe.Class) -> dict[str, str]:
    return {
        described.name: described.description
        for section in _parsed(one)
        if isinstance(section, griffe.DocstringSectionAttributes)
        for described in section.value
    }


def _field_table(fields: dict[str, griffe.Attribute], texts: dict[str, str]) -> str:
    has_text = {name: texts.get(name) or _doc(member) for name, member in fields.items()}
    columns = ["attribute", "type", "default", *(["meaning"] if any(has_text.values()) else [])]
    rows = [columns, ["---"] * len(columns)]
    for name, member in fields.items():
        is_property = "property" in member.labels
        default = "computed" if is_property else _default(member)
        kind = _type_of(name, member)
        row = [f"`{name}`", f"`{kind}`" if kind else "", default, has_text[name]]
        rows.append([_cell(cell) for cell in row[: len(columns)]])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _default(member: griffe.Attribute) -> str:
    if member.value is None:
        owner = member.parent
        optional = isinstance(owner, griffe.Class) and "TypedDict" in map(str, owner.bases)
        return "may be left out" if optional else "required"
    assigned = "instance-attribute" in member.labels and "class-attribute" not in member.labels
    return "set by the constructor" if assigned else f"`{member.value}`"


def _type_of(name: str, member: griffe.Attribute) -> str:
    """Return the type of an attribute: as written, as the constructor's parameter says, or as a base class says."""
    if member.annotation is not None:
        return str(member.annotation)
    owner = member.parent
    assert isinstance(owner, griffe.Class)
    constructor = owner.members.get("__init__")
    if isinstance(constructor, griffe.Function):
        for parameter in constructor.parameters:
            if parameter.annotation is not None and parameter.name in re.findall(r"\w+", str(member.value))[:1]:
                kind = str(parameter.annotation)
                return kind.removesuffix(" | None") if " or " in str(member.value) else kind
    for parent in owner.mro():
        inherited = parent.members.get(name)
        if isinstance(inherited, griffe.Attribute) and inherited.annotation is not None:
            return str(inherited.annotation)
    return ""


def _signature(name: str, one: griffe.Function, prefix: str = "") -> str:
    """Return the signature in a code block, one parameter a line where it is long."""
    if not prefix:
        marks = [f"@{label}\n" for label in ("staticmethod", "classmethod") if label in one.labels]
        prefix = "".join(marks) + ("async def " if "async" in one.labels else "def ")
    shown = [*_parameters(one.parameters)]
    end = "" if prefix == "class " or one.returns is None else f" -> {one.returns}"
    line = f"{prefix}{name}({', '.join(shown)}){end}"
    if len(line.rpartition("\n")[2]) > _WIDTH:
        line = f"{prefix}{name}(\n" + "".join(f"    {parameter},\n" for parameter in shown) + f"){end}"
    return f"```python\n{line}\n```"


def _parameters(parameters: griffe.Parameters) -> Iterator[str]:
    starred = False
    for parameter in parameters:
        if parameter.name in ("self", "cls"):
            continue
        text = parameter.name
        kind = parameter.kind
        if kind is griffe.ParameterKind.var_positional:
            text, starred = f"*{text}", True
        elif kind is griffe.ParameterKind.var_keyword:
            text = f"**{text}"
        elif kind is griffe.ParameterKind.keyword_only and not starred:
            starred = True
            yield "*"
        if parameter.annotation is not None:
            text += f": {parameter.annotation}"
        if parameter.default is not None and not kind.name.startswith("var_"):
            text += f" = {parameter.default}" if parameter.annotation is not None else f"={parameter.default}"
        yield text


def _parsed(one: griffe.Object) -> list[griffe.DocstringSection]:
    return one.docstring.parse("google") if one.docstring else []


def _sections(one: griffe.Object, *, skip_attributes: bool = False) -> Iterator[str]:
    """Give the parts of a docstring as Markdown."""
    for section in _parsed(one):
        if isinstance(section, griffe.DocstringSectionText):
            yield _prose(section.value)
        elif isinstance(section, griffe.DocstringSectionParameters):
            yield _items("Arguments", ((f"`{one.name}`", one.description) for one in section.value))
        elif isinstance(section, griffe.DocstringSectionAttributes):
            if not skip_attributes:
                yield _items("Attributes", ((f"`{one.name}`", one.description) for one in section.value))
        elif isinstance(section, griffe.DocstringSectionRaises):
            yield _items("Raises", ((f"`{one.annotation}`", one.description) for one in section.value))
        elif isinstance(section, griffe.DocstringSectionAdmonition):
            yield f"**{section.title}:** {_one_line(str(section.value.description))}"
        else:
            raise ValueError(f"{one.canonical_path}: no way to show a section of kind {section.kind.value}")


def _items(title: str, items: Iterable[tuple[str, str]]) -> str:
    return "\n".join([f"{title}:", "", *(f"- {name}: {_one_line(text)}" for name, text in items)])


def _prose(text: str) -> str:
    """Return a docstring's text with its trees and indented examples in code blocks."""
    blocks: list[str] = []
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        lines = block.splitlines()
        if any(_TREE.match(line) for line in lines) or all(line.startswith("    ") for line in lines):
            fence = "text" if any(_TREE.match(line) for line in lines) else "python"
            body = textwrap.dedent(block)
            if blocks and blocks[-1].startswith(f"```{fence}\n"):
                blocks[-1] = f"{blocks[-1].removesuffix('```')}\n{body}\n```"
            else:
                blocks.append(f"```{fence}\n{body}\n```")
        else:
            blocks.append(block)
    return "\n\n".join(blocks)


def _one_line(text: str) -> str:
    return " ".join(text.split("\n\n")[0].split())


def _cell(text: str) -> str:
    return _one_line(text).replace("|", "\\|")


def _first_sentence(one: griffe.Object) -> str:
    return re.split(r"(?<=[.:]) (?=[A-Z`])|:$", _one_line(_doc(one)))[0]


def main(args: Sequence[str] | None = None) -> int:
    """Write the pages, or say which are stale."""
    texts = written(load())
    here = {path.name: path.read_text("utf-8") for path in FOLDER.glob("*.md")} if FOLDER.is_dir() else {}
    stale = sorted(name for name in {*texts, *here} if texts.get(name) != here.get(name))
    if "--check" in (sys.argv[1:] if args is None else args):
        print(f"stale: {', '.join(stale)}; run: make reference" if stale else "the reference is what the source says")
        return int(bool(stale))
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in stale:
        if name in texts:
            (FOLDER / name).write_text(texts[name], "utf-8")
        else:
            (FOLDER / name).unlink()
    print(f"{len(stale)} of {len(texts)} pages written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
