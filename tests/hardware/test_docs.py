"""Every public formula of the machine room documents its units and its source."""

import ast
import re
from pathlib import Path

import pytest

HARDWARE = Path(__file__).parents[2] / "src" / "mixtura" / "hardware"
FORMULAS = ("gpu", "lpu", "wafer", "onchip", "routing", "kernel", "cost", "speculation", "serving/closed")
QUANTITIES = ("Array", "Step", "Range", "float", "Queue", "dict[str, Array]", "Memory")
UNITS = re.compile(
    r"seconds?|bytes?|tokens?|FLOP|watts?|joules?|dollars?|bits?|experts?|share|requests?|users|chips", re.IGNORECASE
)


def formulas() -> list[tuple[str, ast.FunctionDef]]:
    found = []
    for module in FORMULAS:
        tree = ast.parse((HARDWARE / f"{module}.py").read_text("utf-8"))
        public = [node for node in tree.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]
        found += [(module, node) for node in public if node.returns and ast.unparse(node.returns) in QUANTITIES]
    return found


@pytest.mark.parametrize(("module", "node"), formulas(), ids=lambda one: getattr(one, "name", one))
def test_a_formula_documents_its_units_and_its_source(module: str, node: ast.FunctionDef) -> None:
    said = ast.get_docstring(node) or ""
    assert UNITS.search(said), f"{module}.{node.name}: no unit"
    assert "Source" in said, f"{module}.{node.name}: no source"
