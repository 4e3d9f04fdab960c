"""cgan completion: scripts by which bash, zsh and fish complete verbs, options, settings and their values.

shtab writes them from the parsers; what is added here are settings: configuration files, keys and their values.
"""

import argparse
import types
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

from cgan.cli.commands import parser_of_verb, root_parser
from cgan.cli.parsing import Parser
from cgan.errors import UserError

SHELLS = ("bash", "zsh", "fish")
EPILOG = """to have it in every new shell:
  bash  cgan completion bash > ~/.local/share/bash-completion/completions/cgan
  zsh   cgan completion zsh > "${fpath[1]}/_cgan"
  fish  cgan completion fish > ~/.config/fish/completions/cgan.fish

or in this one alone: source <(cgan completion bash)
"""
SETTINGS = ("settings", "data", "against")  # arguments that take any number of CONFIG.yaml and key=value

# Prints what may stand in place of $1. bash breaks words at "=", so the whole word is taken from the line.
BASH = r"""
_cgan_settings() {
    local line=${COMP_LINE:0:$COMP_POINT}
    local word=${line##* } ending=''
    if [[ $word == *=* ]]; then
        [[ $COMP_WORDBREAKS == *=* ]] && ending='s/^[^=]*=//'
        compgen -W "@WORDS@" -- "$word" | sed "$ending"
    else
        compgen -W "@WORDS@" -- "$word" | sed "s|^\($word[^.=]*[.=]\).*|\1|" | sort -u
        compgen -d -S / -- "$word"
        compgen -f -X '!*.y*ml' -- "$word"
    fi
}
"""
BASH_END = r"""
_cgan() {  # no space after gan. and gan.penalty= and configs/
    _shtab_cgan
    if [[ ${COMPREPLY[0]-} == *[./=] ]]; then compopt -o nospace 2>/dev/null; fi
}
complete -o bashdefault -F _cgan cgan
"""
ZSH = r"""
_cgan_settings() {
    local -a settings=(@WORDS@)
    if [[ $PREFIX == *=* ]]; then
        compadd -- $settings
    else
        compadd -S '' -- ${(u)settings/=*/=}
        _files -g '*.y(a|)ml'
    fi
}
"""
FISH = r"""
function _cgan_settings
    string split ' ' '@WORDS@'
    string match -q '*=*' -- (commandline -ct); or __fish_complete_suffix .yaml
end
"""


def main(arguments: list[str]) -> None:
    """Print the script of a shell."""
    print(script_of(parser().parse_args(arguments).shell))


def parser() -> argparse.ArgumentParser:
    """Returns the parser of `cgan completion`."""
    result = Parser(
        prog="cgan completion",
        description="Print a script that lets a shell complete cgan's commands.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("shell", choices=SHELLS)
    return result


def script_of(shell: str) -> str:
    """Returns the script by which a shell completes every verb; raises UserError without the package shtab."""
    try:
        import shtab
    except ImportError:
        raise UserError('the scripts are written by shtab: pip install "shtab>=1.13"') from None

    from cgan.config import RunConfig

    words = [f"{key}={value}" for key, values in keys_of(RunConfig).items() for value in values or ("",)]
    functions = {"bash": BASH, "zsh": ZSH, "fish": FISH}
    settings = {"bash": "_cgan_settings", "zsh": "_cgan_settings", "fish": "(_cgan_settings)"}
    preamble = {name: text.replace("@WORDS@", " ".join(words)) for name, text in functions.items()}
    parser = root_parser(parser_of_verb)
    for action in actions_of(parser):
        if action.dest in SETTINGS and action.nargs in ("*", "+"):
            action.complete = {**settings, "preamble": preamble}  # pyright: ignore[reportAttributeAccessIssue]  # what shtab looks for
        elif action.type is Path:
            action.complete = shtab.FILE  # pyright: ignore[reportAttributeAccessIssue]  # what shtab looks for
    return shtab.complete(parser, shell) + (BASH_END if shell == "bash" else "")


def actions_of(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yields the arguments of a parser and of its subparsers."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from actions_of(child)


def keys_of(settings: type, prefix: str = "") -> dict[str, tuple[str, ...]]:
    """Returns every dotted key of a dataclass of settings, with the values of those that are a choice."""
    found = {}
    for name, kind in get_type_hints(settings).items():
        if isinstance(kind, type) and is_dataclass(kind):
            found |= keys_of(kind, f"{prefix}{name}.")
        else:
            found[prefix + name] = choices_of(kind)
    return found


def choices_of(kind: object) -> tuple[str, ...]:
    """Returns the values of a Literal or a boolean, also where None may stand in its place."""
    if kind is bool:
        return "true", "false"
    if get_origin(kind) is Literal:
        return tuple(str(choice) for choice in get_args(kind))
    if isinstance(kind, types.UnionType):
        return tuple(choice for part in get_args(kind) for choice in choices_of(part))
    return ()
