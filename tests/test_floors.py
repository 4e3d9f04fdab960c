"""A module uses the floors below it and its own folder; nothing sideways, nothing up."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "cgan"
FLOORS = {
    **dict.fromkeys(("errors", "metric_names"), -1),
    **dict.fromkeys(("files", "damage", "ranges", "workers"), -0.5),
    **dict.fromkeys(("interfaces", "processes", "scaling", "weights", "meters", "pixels", "precision"), 0),
    **dict.fromkeys(("data", "text", "networks", "losses", "metrics", "schedule", "plots", "significance", "muon"), 1),
    **dict.fromkeys(("checkpoints", "sheets", "guidance", "metrics_file"), 1),
    **dict.fromkeys(("gan", "joint", "drawing"), 2),
    **dict.fromkeys(("sampling", "retrieval", "measuring", "benchmarking"), 3),
    **dict.fromkeys(("evaluation", "joint_evaluation", "picture_evaluation", "two_object_evaluation"), 4),
    **dict.fromkeys(("interpolation", "onnx_export"), 4),
    **dict.fromkeys(("callbacks", "gauges", "measures", "recovery", "config"), 5),
    "cli": 6,
    "__main__": 7,
}


def imported_parts(tree: ast.Module) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written in full"
            names.add(node.module)
            names.update(f"cgan.{alias.name}" for alias in node.names if node.module == "cgan")
    return {name.split(".")[1] for name in names if name.startswith("cgan.")} - {"__version__"}


def test_every_module_has_a_floor():
    parts = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in PACKAGE.rglob("*.py")} - {"__init__"}
    assert parts <= set(FLOORS)


def test_imports_go_downwards_only():
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for used in imported_parts(ast.parse(path.read_text())):
            if used != part and FLOORS[used] >= FLOORS.get(part, 7):
                wrong.append(f"{path.name} imports cgan.{used}")
    assert not wrong
