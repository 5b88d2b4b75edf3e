"""The names that `clean` removes, against the code that makes them."""

import re
from fnmatch import fnmatchcase
from pathlib import Path

import bedplate
from bedplate.act.owned_names import CACHE_NAMES, LOCK, STATE_NAMES
from bedplate.act.paths import Paths
from bedplate.image import keys

SOURCE = Path(bedplate.__file__).parent
# `paths.cache / "kvm.json"`, `paths.state / _PARTIAL.format(...)`: whatever is joined to one of the two directories
JOINED = re.compile(r"\b(cache|state)\s*/\s*(f?)(\"[^\"]+\"|[A-Za-z_]\w*)")
GLOBBED = re.compile(r"\bpaths\.(cache|state)\.glob\(\s*(f?)(\"[^\"]+\"|[A-Za-z_]\w*)")


def is_owned(directory: str, name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in (LOCK, *{"cache": CACHE_NAMES, "state": STATE_NAMES}[directory]))


def made_names() -> set[tuple[str, str]]:
    """(directory, name) of each place in the source that makes or looks for an entry of one of the two directories."""
    known = {"_PARTIAL": keys._PARTIAL}
    found = set()
    for file in SOURCE.rglob("*.py"):
        if file.name == "clean.py":
            continue
        text = file.read_text()
        for directory, _, word in (*JOINED.findall(text), *GLOBBED.findall(text)):
            name = word.strip('"') if word.startswith('"') else known[word]
            found.add((directory, re.sub(r"\{[^}]*\}", "1", name)))
    return found


def test_clean_knows_each_name_that_the_code_makes() -> None:
    found = made_names()
    assert {("cache", "kvm.json"), ("cache", "tools.partial-1"), ("state", "locks"), ("state", "keys.partial-1")} <= found
    paths = Paths(cache=Path("/cache"), state=Path("/state"))
    for attribute in (name for name, value in vars(Paths).items() if isinstance(value, property)):
        path: Path = getattr(paths, attribute)
        found.add((path.parts[1], path.parts[2]))
    assert {("cache", "tools"), ("state", "models")} <= found
    assert [entry for entry in sorted(found) if not is_owned(*entry)] == []


def test_each_name_of_the_list_is_one_that_is_made() -> None:
    paths = Paths(cache=Path("/cache"), state=Path("/state"))
    made = made_names() | {
        (path.parts[1], path.parts[2])
        for path in (getattr(paths, name) for name, value in vars(Paths).items() if isinstance(value, property))
    }
    elsewhere = {"bench", ".*.unfinished"}  # of bench/arms.py, and of act/files.py beside kvm.json
    for directory, patterns in (("cache", CACHE_NAMES), ("state", STATE_NAMES)):
        for pattern in set(patterns) - elsewhere:
            assert any(fnmatchcase(name, pattern) for where, name in made if where == directory), pattern
