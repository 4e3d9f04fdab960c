"""The files around the package agree with it: citation, changelog, workflows, hooks, container and templates."""

import fnmatch
import re
import tomllib

import yaml

from cgan.version import __version__
from helpers import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
WORKFLOWS = sorted(ROOT.glob(".github/workflows/*.yml"))


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def steps(workflow: dict) -> list[dict]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def test_the_citation_names_this_version_and_licence():
    citation = yaml.safe_load(text_of("CITATION.cff"))
    assert citation["version"] == __version__ and citation["license"] == PROJECT["project"]["license"] == "MIT"
    assert {"cff-version", "message", "title", "authors"} <= set(citation)


def test_the_changelog_has_this_version_or_says_that_it_is_not_released():
    changelog = text_of("CHANGELOG.md")
    versions = re.findall(r"^## \[(.+?)\]", changelog, re.MULTILINE)
    assert versions[0] == "Unreleased" and (__version__ in versions or f"is {__version__}" in changelog)
    groups = set(re.findall(r"^### (\w+)", changelog, re.MULTILINE))
    assert groups <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_workflows_install_extras_that_exist_and_have_a_limit_of_time():
    extras = {*PROJECT["project"]["optional-dependencies"], "docs"}
    for path in WORKFLOWS:
        workflow = yaml.safe_load(path.read_text())
        commands = " ".join(step.get("run", "") for step in steps(workflow))
        assert set(re.findall(r'-e "\.\[(\w+)\]"', commands)) <= extras, path.name
        assert all("timeout-minutes" in job for job in workflow["jobs"].values()), path.name
        assert workflow["permissions"] == {"contents": "read"}, path.name


def test_workflows_test_every_version_of_python_that_is_promised():
    versions = yaml.safe_load(text_of(".github/workflows/tests.yml"))["jobs"]["quick"]["strategy"]["matrix"]["python"]
    assert versions == ["3.11", "3.12", "3.13"] and PROJECT["project"]["requires-python"] == f">={versions[0]}"


def test_hooks_run_the_linter_and_the_formatter_of_the_project():
    (repository,) = yaml.safe_load(text_of(".pre-commit-config.yaml"))["repos"]
    entries = {hook["id"]: hook["entry"].split()[:2] for hook in repository["hooks"]}
    assert entries["ruff-check"] == ["ruff", "check"] and entries["ruff-format"] == ["ruff", "format"]
    assert "end-of-file-fixer" in entries
    assert all(hook["additional_dependencies"] for hook in repository["hooks"])


def test_the_container_gets_the_files_that_the_wheel_is_built_from():
    kept = [line[1:] for line in text_of(".dockerignore").splitlines() if line.startswith("!")]
    build = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    for name in [
        *build["packages"],
        *build["force-include"],
        "pyproject.toml",
        PROJECT["project"]["readme"],
        "LICENSE",
    ]:
        assert any(fnmatch.fnmatch(name, pattern) for pattern in kept), name


def test_the_container_does_not_run_as_root():
    lines = text_of("Dockerfile").splitlines()
    assert [line for line in lines if line.startswith("USER ")][-1] == "USER 1001"
    assert 'ENTRYPOINT ["cgan"]' in lines and not any("--privileged" in line for line in lines)


def test_templates_of_issues_have_what_github_asks_for():
    for name in ("bug", "feature"):
        form = yaml.safe_load(text_of(f".github/ISSUE_TEMPLATE/{name}.yml"))
        assert form["name"] and form["description"]
        assert all({"type", "id", "attributes"} <= set(part) and part["attributes"]["label"] for part in form["body"])


def test_every_link_of_the_pages_around_the_package_leads_somewhere():
    for name in (
        "CHANGELOG.md",
        "SECURITY.md",
        "CODE_OF_CONDUCT.md",
        ".github/PULL_REQUEST_TEMPLATE.md",
        "spaces/README.md",
    ):
        for target in re.findall(r"\]\(([^)#]+)", text_of(name)):
            assert target.startswith("https://") or (ROOT / name).parent.joinpath(target).exists(), (name, target)
