"""python spaces/make.py FOLDER: writes a folder that is a whole Space, with the package and its weights beside app.py.

A Space installs what requirements.txt names, and cgan is on no package index; so the package lies in the Space itself.
"""

import shutil
import sys
from pathlib import Path

SPACE = Path(__file__).resolve().parent
PROJECT = SPACE.parent


def make_space(folder: Path) -> Path:
    """Writes the Space into a new folder and returns it; raises FileExistsError where the folder exists."""
    folder.mkdir(parents=True)
    for name in ("app.py", "README.md", "requirements.txt"):
        shutil.copy(SPACE / name, folder / name)
    shutil.copytree(PROJECT / "cgan", folder / "cgan", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(PROJECT / "configs", folder / "cgan/configs")
    shutil.copy(PROJECT / "LICENSE", folder / "LICENSE")
    (folder / "cgan/assets").mkdir()
    for suffix in ("safetensors", "md"):  # weights, and whose pictures they were trained on
        for file in PROJECT.glob(f"assets/*.{suffix}"):
            shutil.copy(file, folder / "cgan/assets" / file.name)
    (folder / ".gitattributes").write_text("*.safetensors filter=lfs diff=lfs merge=lfs -text\n")
    return folder


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python spaces/make.py FOLDER")
    try:
        print(make_space(Path(sys.argv[1])))
    except OSError as error:
        sys.exit(f"error: {sys.argv[1]}: can't be written ({error.strerror}); give a new folder")
