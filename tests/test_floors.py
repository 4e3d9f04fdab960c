"""A folder imports from the floors below it alone; files may know each other only inside a folder, and in no circle."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from helpers import ROOT

PACKAGE = ROOT / "cgan"
FLOORS = (  # from the ground up: what stands in a row imports from the rows above it here
    {"errors", "version"},
    {"files", "renamed", "resources", "ranges", "damage", "workers"},
    {"interfaces", "machine", "pixels", "sharding"},
    {"data"},
    {"models", "auto_precision"},
    {"sizes", "metrics", "figures"},
    {"config"},
    {"config_reference"},
    {"sampling", "retrieval"},
    {"evaluation"},
    {"training"},
    {"benchmarks", "demo"},
    {"cli"},
    {"__main__"},
)


def modules() -> dict[str, Path]:
    """The dotted name of each file of the package, and the file."""
    paths = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}
    return {name.removesuffix(".__init__"): path for name, path in paths.items()}


def imported(tree: ast.Module, known: set[str]) -> Iterator[str]:
    """The modules of the package that a file imports, at its top or inside a function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written in full"
            for alias in node.names:
                inside = f"{node.module}.{alias.name}"
                yield from (name for name in (inside if inside in known else node.module,) if name in known)


def imports() -> dict[str, set[str]]:
    """Of each module the modules that it imports; the package itself only offers its names, lazily."""
    found = modules()
    graph = {name: set(imported(ast.parse(path.read_text()), set(found))) - {"cgan"} for name, path in found.items()}
    return graph | {"cgan": set()}


def part_of(module: str) -> str:
    """The folder or file at the top of the package that a module belongs to."""
    return module.split(".")[1]


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The modules of a circle, empty where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_every_part_has_a_floor():
    assert {part_of(name) for name in modules() if name != "cgan"} == set().union(*FLOORS)


def test_imports_go_down_the_floors_only():
    floor = {part: number for number, row in enumerate(FLOORS) for part in row}
    pairs = [(user, used) for user, all_used in imports().items() for used in all_used]
    wrong = [pair for pair in pairs if part_of(pair[0]) != part_of(pair[1])]
    wrong = [pair for pair in wrong if floor[part_of(pair[1])] >= floor[part_of(pair[0])]]
    assert not wrong


def test_no_files_import_each_other_in_a_circle():
    assert not circle(imports())


@pytest.mark.parametrize("graph", [{"a": {"b"}, "b": {"a"}}, {"a": {"b"}, "b": {"c"}, "c": {"a"}}])
def test_a_circle_is_found(graph):
    assert circle(graph)
