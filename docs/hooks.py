"""Hooks of mkdocs: pages that are made from the code, and links that lead out of docs/.

Files that a page links to outside of docs/ (pictures in assets/, configurations) become part of the site, and the links
are changed accordingly, so that the same Markdown works on GitHub and on the site.
"""

import posixpath
import re
from functools import partial
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(\]\(|(?:src|srcset|href)=\")([^)\"#\s:]+)(?=[)#\"\s])")
MARK = "<!-- made by docs/hooks.py -->"  # of a page that ends with what is made here
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
    for name in packages():
        files.append(File.generated(config, f"reference/{name}.md", content=package_page(name)))
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
    markdown = markdown.replace(MARK, MADE[here]()) if here in MADE else markdown

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
        f"## {module}\n\n::: {module}\n    options: {{show_root_heading: false, show_root_toc_entry: false}}\n"
        for module in modules_of(package)
    ]
    return "\n".join(parts)


# ------------------------------------------------------------------------------------ configuration


def configuration_keys() -> str:
    """Returns a table of keys for each section."""
    from cgan.config_reference import config_markdown

    return config_markdown()


# ------------------------------------------------------------------------------------ commands


def commands_help() -> str:
    """Returns what each command prints for --help."""
    from cgan.cli.benchmark import COMMANDS, SUBJECTS
    from cgan.cli.commands import VERBS, parser_of_verb

    parsers = {verb: (about, parser_of_verb(verb)) for verb, about in VERBS.items()}
    parsers |= {f"benchmark {name}": (about, COMMANDS[name][0]()) for name, about in SUBJECTS.items()}
    text = []
    for verb, (about, parser) in parsers.items():
        parser.formatter_class = partial(parser.formatter_class, width=84, max_help_position=26)
        text.append(f"## cgan {verb}\n\n{about.capitalize()}.\n\n```text\n{parser.format_help()}```\n")
    return "\n".join(text)


MADE = {"reference/configuration.md": configuration_keys, "reference/commands.md": commands_help}
