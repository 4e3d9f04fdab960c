"""cgan completion: scripts by which bash, zsh and fish complete verbs, options, settings and their values.

Everything is written into the script, so that a shell need not start Python to complete a word.
"""

import argparse
from collections.abc import Iterable

from cgan.cli.commands import VERBS, WITH_SETTINGS, Key, Option, all_options, keys_of

SHELLS = ("bash", "zsh", "fish")
EPILOG = """to have it in every shell:
  echo 'source <(cgan completion bash)' >> ~/.bashrc
  echo 'source <(cgan completion zsh)' >> ~/.zshrc
  cgan completion fish > ~/.config/fish/completions/cgan.fish
"""

# For bash 3.2 and later, and for zsh by its bashcompinit. A word ends with a space unless more of it is to come. Where
# nothing fits, the shell completes file names.
BASH = r"""
_cgan() {
    [ -n "${ZSH_VERSION-}" ] && emulate -L sh
    local line=${COMP_LINE:0:$COMP_POINT} word offers= verb previous c rest
    word=${line##* }
    set -f; set -- ${line% *}; set +f
    for previous in "$@"; do :; done
    COMPREPLY=()
    if [ $# -lt 2 ]; then
        offers="@VERBS@"
    else
        verb=$2
        case "$verb" in @PARENTS@)
            if [ $# -lt 3 ]; then offers=$(_cgan_subjects "$verb"); else verb="$verb $3"; fi ;;
        esac
        case "$word" in
            -*) offers=$(_cgan_options "$verb") ;;
            *=*) offers=$(_cgan_values "$word") ;;
            *)
                if _cgan_takes_value "$verb $previous"; then
                    offers=$(_cgan_choices "$verb $previous")
                elif _cgan_takes_settings "$verb"; then
                    offers="$offers $(_cgan_keys)"
                    for c in "${word:-configs}"*; do
                        if [ -d "$c" ]; then offers="$offers $c/"; fi
                        case "$c" in *.yaml|*.yml) offers="$offers $c" ;; esac
                    done
                fi ;;
        esac
    fi
    for c in $offers; do
        case "$c" in
            "$word"*)
                rest=${c#"$word"}
                case "$rest" in *.yaml|*.yml) ;; *[./]?*) continue ;; esac
                case "${COMP_WORDBREAKS-}" in *=*) case "$word" in *=*) c=${c#*=} ;; esac ;; esac
                case "$c" in *[=./]) ;; *) c="$c " ;; esac
                COMPREPLY+=("$c") ;;
        esac
    done
}
_cgan_subjects() { case "$1" in
@SUBJECTS@
esac; }
_cgan_options() { case "$1" in
@OPTIONS@
esac; }
_cgan_takes_value() { case "$1" in
@VALUED@
*) return 1 ;;
esac; }
_cgan_choices() { case "$1" in
@CHOICES@
esac; }
_cgan_takes_settings() { case "$1" in
@SETTINGS@) return 0 ;;
*) return 1 ;;
esac; }
_cgan_keys() { echo "@KEYS@"; }
_cgan_values() { case "$1" in
@VALUES@
esac; }
complete -o default -o nospace -F _cgan cgan
"""
ZSH = """
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
autoload -Uz +X bashcompinit && bashcompinit
"""


def main(arguments: list[str]) -> None:
    """Print the script of a shell."""
    shell = parser().parse_args(arguments).shell
    from cgan.config import RunConfig

    options, keys = all_options(), list(keys_of(RunConfig))
    print(f"# completion of cgan for {shell}, written by: cgan completion {shell}")
    match shell:
        case "bash":
            print(bash_script(options, keys))
        case "zsh":
            print(ZSH + bash_script(options, keys))
        case "fish":
            print(fish_script(options, keys))
        case unknown:
            raise ValueError(f"no such shell: {unknown}")


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="cgan completion",
        description="Print a script that lets a shell complete cgan's commands.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("shell", choices=SHELLS)
    return result


def subjects(options: Iterable[str]) -> dict[str, list[str]]:
    """The subjects of verbs that have some."""
    found: dict[str, list[str]] = {}
    for verb in options:
        if " " in verb:
            found.setdefault(verb.split()[0], []).append(verb.split()[1])
    return found


# ---------------------------------------------------------------------------------------------- bash, zsh


def bash_script(options: dict[str, list[Option]], keys: list[Key]) -> str:
    everything = [(verb, option) for verb, known in options.items() for option in known]
    parts = {
        "VERBS": " ".join(VERBS),
        "PARENTS": "|".join(subjects(options)),
        "SUBJECTS": cases({verb: names for verb, names in subjects(options).items()}),
        "OPTIONS": cases({verb: [option.name for option in known] for verb, known in options.items()}),
        "VALUED": "|".join(f'"{verb} {option.name}"' for verb, option in everything if option.takes_value) + ") ;;",
        "CHOICES": cases({f"{verb} {option.name}": option.choices for verb, option in everything if option.choices}),
        "SETTINGS": "|".join(f'"{verb}"' for verb in WITH_SETTINGS),
        "KEYS": " ".join([*sections(keys), *(f"{key.name}=" for key in keys)]),
        "VALUES": cases({f"{key.name}=": [f"{key.name}={value}" for value in key.choices] for key in keys}, "*"),
    }
    script = BASH
    for name, text in parts.items():
        script = script.replace(f"@{name}@", text)
    return script


def cases(words: dict[str, Iterable[str]], ending: str = "") -> str:
    return "\n".join(f'"{name}"{ending}) echo "{" ".join(some)}" ;;' for name, some in words.items() if some)


def sections(keys: list[Key]) -> list[str]:
    """gan., gan.generator. and so on."""
    places = [key.name.split(".")[:depth] for key in keys for depth in range(1, key.name.count(".") + 1)]
    return list(dict.fromkeys(".".join(place) + "." for place in places))


# ---------------------------------------------------------------------------------------------- fish


def fish_script(options: dict[str, list[Option]], keys: list[Key]) -> str:
    lines = [
        f"complete -c cgan -n __fish_use_subcommand -f -a {verb} -d {quoted(what)}" for verb, what in VERBS.items()
    ]
    for verb, names in subjects(options).items():
        lines.append(f"complete -c cgan -n {seen(verb)} -a {quoted(' '.join(names))}")
    for verb, known in options.items():
        lines += [fish_option(verb, option) for option in known]
    words = [f"{key.name}={value}" for key in keys for value in key.choices or ("",)]
    lines += [f"complete -c cgan -n {seen(verb)} -a {quoted(' '.join(words))}" for verb in WITH_SETTINGS]
    return "\n".join(lines)


def fish_option(verb: str, option: Option) -> str:
    line = f"complete -c cgan -n {seen(verb)} -l {option.name.removeprefix('--')} -d {quoted(option.help)}"
    if option.choices:
        return f"{line} -x -a {quoted(' '.join(option.choices))}"
    return f"{line} -r" if option.takes_value else line


def seen(verb: str) -> str:
    return quoted("; and ".join(f"__fish_seen_subcommand_from {word}" for word in verb.split()))


def quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
