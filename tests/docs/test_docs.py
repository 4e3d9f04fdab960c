"""Commands, settings, links and code in README.md and docs/ are ones that work."""

import os
import re
import shlex
import tomllib
from argparse import ArgumentParser
from functools import cache
from pathlib import Path

import pytest

from cgan.cli.benchmark import COMMANDS
from cgan.cli.commands import VERBS, parser_of_verb
from cgan.cli.completion import keys_of
from cgan.cli.train import section_in, with_resume_as_key
from cgan.config import RunConfig, load_config
from cgan.config_reference import config_rows
from cgan.errors import UserError
from helpers import ROOT
from helpers.forked import Forked
from helpers.pages import PAGES, command_of, commands_in, name_of
from helpers.runs import ended

EXTENDING = ROOT / "docs/extending.md"
PARSERS = {verb: parser_of_verb(verb) for verb in VERBS}
PARSERS |= {f"benchmark {subject}": make_parser() for subject, (make_parser, _) in COMMANDS.items()}
KEY = re.compile(r"(data|text|joint|gan|trainer)\.[a-z_.]+(=.*)?")
FILES = ("py", "md", "json", "ckpt", "yaml", "safetensors")
KEYS = set(keys_of(RunConfig))


def test_no_hint_installs_cgan_from_an_index_where_it_is_not():
    texts = [*PAGES, *ROOT.glob("cgan/**/*.py"), *ROOT.glob("configs/**/*.yaml"), *ROOT.glob("examples/*")]
    wrong = [path.name for path in texts if re.search(r"pip3? install [^`\n]*\bcgan\b", path.read_text("utf-8"))]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    hint = r"how_to_install\([\"'](\w+)|-e \"\.\[(\w+)\]\""
    named = {name for path in texts for name in re.findall(hint, path.read_text("utf-8"))}
    assert not wrong and {one or other for one, other in named} <= set(extras)


@cache
def check(verb: str, arguments: tuple[str, ...]) -> None:
    """Raises unless the command line is one that the verb understands."""
    assert verb in VERBS or verb.startswith("--"), verb
    if verb == "train" and "--help-config" in arguments:
        assert config_rows(section_in(list(arguments)))
        return
    if verb == "train":
        given = [argument for argument in with_resume_as_key(list(arguments)) if argument != "--print-config"]
        load_config([filled(argument) for argument in given if is_setting(argument)])
        return
    if verb == "benchmark":
        verb, arguments = f"benchmark {arguments[0]}", arguments[1:]
    if verb in PARSERS:
        options = understood(PARSERS[verb], [filled(argument) for argument in arguments])
        settings = getattr(options, "settings", None) or getattr(options, "data", None) or []
        if len(settings) != 1 or "=" in settings[0] or settings[0].endswith(".yaml"):  # or else it is a folder
            load_config([setting for setting in settings if is_setting(setting)])
        for file in [argument for argument in arguments if argument.startswith(("configs/", "assets/"))]:
            assert (ROOT / file).is_file(), file


def understood(parser: ArgumentParser, arguments: list[str]):
    try:
        return parser.parse_args(arguments)
    except UserError:
        return parser.parse_intermixed_args(arguments)


def is_setting(argument: str) -> bool:
    return argument != "key=value" and not argument.endswith("=...")


def filled(argument: str) -> str:
    """What stands for the user's own configuration, as one of ours."""
    argument = "configs/gan/folder.yaml" if argument == "CONFIG.yaml" else argument
    return str(ROOT / argument) if argument.startswith("configs/") else argument


def inline_code(page: Path) -> list[str]:
    text = re.sub(r"^(```.*?^```|    .*?$)", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_is_understood(page):
    for words in commands_in(page):
        try:
            verb, arguments = command_of(words)
            check(verb, tuple(arguments))
        except (SystemExit, Exception) as error:
            pytest.fail(f"{shlex.join(words)}: {error}")


def test_commands_are_found_at_all():
    assert len(commands_in(ROOT / "README.md")) >= 4 and len(commands_in(ROOT / "docs/faq.md")) > 15


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_key_that_is_named_exists_and_takes_its_value(page):
    words = {word for span in inline_code(page) for word in span.split() if KEY.fullmatch(word)}
    named = {word.partition("=")[0] for word in words} - {"trainer.key"}
    unknown = {name for name in named if not any(f"{key}.".startswith(f"{name}.") for key in KEYS)}
    assert not {name for name in unknown if not name.endswith(FILES)}
    load_config([word for word in sorted(words) if "=" in word and not re.search(r"=[A-Z]+$|=\.\.\.", word)])


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_verb_and_option_that_is_named_exists(page):
    options = {option for parser in PARSERS.values() for action in parser._actions for option in action.option_strings}
    for span in inline_code(page):
        words = span.split()
        if words[0] == "cgan" and len(words) > 1:
            assert set(words[1].split("|")) <= {*VERBS, "VERB", "--version"}, span
        if words[0] in ("cgan", "sample.py") or words[0].startswith("--"):
            unknown = {word for word in words if re.match(r"--\w", word)} - options - {"--version", "--help"}
            others = ("--requeue", "--max-restarts", "--user")  # SLURM's, torchrun's, Docker's
            assert not unknown or words[0] in others, span


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        assert target.startswith("http") or (page.parent / target).exists(), target


# ---------------------------------------------------------------------------------------------- blocks of code


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", ["faq.md", "metrics.md", "evaluation.md"])
def test_the_python_of_a_page_runs(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    found = blocks(ROOT / "docs" / page, "python")
    assert found
    for block in found:
        exec(compile(block, page, "exec"), {})


@pytest.mark.slow
def test_what_the_page_on_extending_adds_works_and_trains(tmp_path):
    (tmp_path / "all.py").write_text("\n".join(blocks(EXTENDING, "python")))
    environment = {**os.environ, "CGAN_CACHE": str(tmp_path / "cache")}
    status, stdout, stderr = ended(Forked(tmp_path / "all.py", cwd=tmp_path, environment=environment))
    assert status == 0, stderr
    assert "32 pictures at 32 px" in stdout and (tmp_path / "red.png").is_file()
