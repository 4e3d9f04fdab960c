"""Hooks of mkdocs: pages that are made from the code, and links that lead out of docs/.

Files that a page links to outside of docs/ (pictures in assets/, configurations) become part of the site, and the links
are changed accordingly, so that the same Markdown works on GitHub and on the site.
"""

import ast
import inspect
import io
import posixpath
import re
import textwrap
import tokenize
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_type_hints

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(\]\(|(?:src|srcset|href)=\")([^)\"#\s:]+)(?=[)#\"\s])")
PAGES_OUTSIDE = {"CONTRIBUTING.md": "contributing.md", "README.md": "index.md"}  # and where the site has them
LIBRARY = """data data.readers data.scenes models models.generators models.encoders models.text training
    training.callbacks metrics evaluation sampling retrieval benchmarks figures""".split()  # a page of the API for each


# ------------------------------------------------------------------------------------ mkdocs' events


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Adds the packages of the API to the section "Reference"."""
    reference = next(section["Reference"] for section in config.nav or [] if "Reference" in section)
    reference += [{f"cgan.{name}": f"reference/{name}.md"} for name in packages()]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds pages that are made here, and the files outside of docs/ that pages link to."""
    made = {"reference/configuration.md": configuration_page(), "reference/commands.md": commands_page()}
    made |= {f"reference/{name}.md": package_page(name) for name in packages()}
    for uri, content in made.items():
        files.append(File.generated(config, uri, content=content))
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "contributing.md", content=contributing))
    texts = [(file.src_uri, file.content_string) for file in files.documentation_pages()]
    wanted = {target for uri, text in texts for _, link in LINK.findall(text) if (target := outside(uri, link))}
    for target in sorted(wanted - {*PAGES_OUTSIDE}) + ["assets/favicon.svg"]:
        files.append(File.generated(config, target, abs_src_path=str(ROOT / target)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Returns the page with links that lead where the site has the files."""
    here = page.file.src_uri

    def changed(match: re.Match) -> str:
        target = outside(here, match[2])
        if target is None and page.file.src_uri == "contributing.md" and match[2].startswith("docs/"):
            target = match[2].removeprefix("docs/")
        if target is None:
            return match[0]
        return match[1] + posixpath.relpath(PAGES_OUTSIDE.get(target, target), posixpath.dirname(here) or ".")

    return LINK.sub(changed, markdown)


def outside(page: str, link: str) -> str | None:
    """Returns the path, from the repository's root, of a file outside of docs/ that a page links to."""
    folder = "" if page == "contributing.md" else posixpath.dirname(f"docs/{page}")
    target = posixpath.normpath(posixpath.join(folder, link))
    return target if not target.startswith("docs/") and (ROOT / target).is_file() else None


# ------------------------------------------------------------------------------------ the API


def packages() -> list[str]:
    """Returns the packages of the library that are there, in the order of LIBRARY, and new ones after them."""
    skipped = {"cli", "demo"}
    found = {str(path.parent.relative_to(ROOT / "cgan")).replace("/", ".") for path in ROOT.glob("cgan/*/**/*.py")}
    found = {name for name in found if name.split(".")[0] not in skipped}
    return [*(name for name in LIBRARY if name in found), *sorted(found - {*LIBRARY})]


def modules_of(package: str) -> list[str]:
    """Returns the modules of a package, without those of packages inside it."""
    folder = ROOT / "cgan" / package.replace(".", "/")
    names = sorted(path.stem for path in folder.glob("*.py"))
    return [f"cgan.{package}.{name}" if name != "__init__" else f"cgan.{package}" for name in names]


def package_page(package: str) -> str:
    """Returns the page of a package: all public names of its modules."""
    parts = [f"# cgan.{package}\n"]
    parts += [
        f"## {module}\n\n::: {module}\n    options: {{show_root_heading: false}}\n" for module in modules_of(package)
    ]
    return "\n".join(parts)


# ------------------------------------------------------------------------------------ configuration


def configuration_page() -> str:
    """Returns a table of keys, types, defaults and what they do, for each dataclass of the configuration."""
    from cgan.config import RunConfig

    text = [CONFIGURATION]
    for prefix, cls in dataclasses_in(RunConfig):
        text += [f"\n## {prefix or 'Top level'}\n", inspect.getdoc(cls) or "", "", "| key | type | default | meaning |"]
        text.append("|---|---|---|---|")
        comments, hints = comments_of(cls), get_type_hints(cls)
        for each in fields(cls):
            if not is_dataclass(hints[each.name]):
                key = f"{prefix}.{each.name}" if prefix else each.name
                row = (f"`{key}`", f"`{type_name(hints[each.name])}`", f"`{default_of(each)}`", comments[each.name])
                text.append("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |")
    return "\n".join(text)


CONFIGURATION = """# Configuration keys

Give a key on the command line, `python train.py trainer.minutes=60`, or in a YAML file that you name before it. This
page is made from the dataclasses and their comments. `gan.size` and other keys set some of the defaults
([sizes](../recipes.md#sizes)); a default below is that of the dataclass alone.
"""


def dataclasses_in(cls: type, prefix: str = "") -> Iterator[tuple[str, type]]:
    """Yields the prefix of the keys, and the dataclass, for a dataclass and for those inside it."""
    yield prefix, cls
    hints = get_type_hints(cls)
    for each in fields(cls):
        if is_dataclass(hints[each.name]):
            yield from dataclasses_in(hints[each.name], f"{prefix}.{each.name}".lstrip("."))


def comments_of(cls: type) -> dict[str, str]:
    """Returns the comments of each field: those from its line to the next field."""
    source = textwrap.dedent(inspect.getsource(cls))
    body = ast.parse(source).body[0].body
    starts = {node.lineno: node.target.id for node in body if isinstance(node, ast.AnnAssign)}
    comments: dict[str, list[str]] = {name: [] for name in starts.values()}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        before = [line for line in starts if line <= token.start[0]]
        if token.type == tokenize.COMMENT and before:
            comments[starts[max(before)]].append(token.string.lstrip("# "))
    return {name: " ".join(lines) for name, lines in comments.items()}


def type_name(hint: Any) -> str:
    """Returns a type as a reader would write it."""
    text = hint.__name__ if isinstance(hint, type) and not getattr(hint, "__args__", None) else str(hint)
    text = re.sub(r"typing\.Literal\[(.*?)\]", lambda match: match[1].replace(", ", " | "), text)
    return text.replace("typing.", "")


def default_of(field: Field) -> str:
    """Returns a field's default as YAML has it."""
    value = field.default_factory() if field.default_factory is not MISSING else field.default
    return {"None": "null", "True": "true", "False": "false"}.get(str(value), str(value))


# ------------------------------------------------------------------------------------ commands


def commands_page() -> str:
    """Returns what each command prints for --help."""
    from cgan.cli.benchmark import COMMANDS, SUBJECTS
    from cgan.cli.commands import VERBS, parser_of_verb

    text = [
        "# Commands\n\nThis page holds what each command prints for `--help`. `cgan train` and `cgan sample` are also "
    ]
    text[0] += "`python train.py` and `python sample.py`.\n"
    parsers = {verb: (about, parser_of_verb(verb)) for verb, about in VERBS.items()}
    parsers |= {f"benchmark {name}": (about, COMMANDS[name][0]()) for name, about in SUBJECTS.items()}
    for verb, (about, parser) in parsers.items():
        parser.formatter_class = partial(parser.formatter_class, width=100, max_help_position=28)
        text.append(f"## cgan {verb}\n\n{about.capitalize()}.\n\n```text\n{parser.format_help()}```\n")
    return "\n".join(text)
