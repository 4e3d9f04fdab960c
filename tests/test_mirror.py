"""Folders of tests are those of the package."""

from helpers import ROOT

OTHERS = {"docs", "helpers", "stress"}  # pages and the wheel, what tests share, and scripts that run for long


def folders_of(name: str) -> set[str]:
    return {path.parent.name for path in (ROOT / name).glob("*/*.py")}


def test_each_folder_of_the_package_has_its_tests_and_no_other_has():
    assert folders_of("tests") - OTHERS == folders_of("cgan")


def test_a_test_has_a_name_of_its_own():
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(set(names)) == sorted(names)
