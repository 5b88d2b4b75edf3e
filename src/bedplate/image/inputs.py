"""Which of our own code decides what a build makes, so that its result is made again when that code changes.

The list is read from the imports: whoever moves a part of a build into a new module has nothing to remember. It is rather
too long than too short: a module that only asks for something costs a build when it changes, one that is missed leaves an
old result. What of bedplate lies outside this directory is in the image anyway, and an input of it as a whole.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

PACKAGE = Path(__file__).parent
_IMPORT = re.compile(
    r"^[ ]*(?:from bedplate\.image\.(\w+) import |import bedplate\.image\.(\w+)|from bedplate\.image import ([\w, ]+))",
    re.MULTILINE,
)


def find_builders(entry: str, package: Path | None = None) -> tuple[Path, ...]:
    """The files of the module `entry` of this directory and of all that it imports from it, in turn, sorted by name.

    package: the directory that is read; None for this one.
    """
    directory = package or PACKAGE
    found: set[str] = set()
    left = [entry]
    while left:
        name = left.pop()
        if name in found or not (directory / f"{name}.py").is_file():  # `from bedplate.image import __name__` of a package
            continue
        found.add(name)
        for named, imported, several in _IMPORT.findall((directory / f"{name}.py").read_text()):
            left += [named or imported] if named or imported else re.findall(r"\w+", several)
    return tuple(directory / f"{name}.py" for name in sorted(found))


def digest_builders(entry: str) -> str:
    """SHA-256, in hex, over the names and contents of `find_builders`: a change of one byte in them makes a new image."""
    digest = hashlib.sha256()
    for file in find_builders(entry):
        content = file.read_bytes()
        digest.update(f"{file.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()
