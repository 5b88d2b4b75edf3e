"""Files of rows beside those that ship, in /etc/bedplate/catalog.d: the owner's own files, and bundles that were imported.

The owner's files lie in a directory for each kind; a bundle has rows of all kinds and lies in bundles/ as it was signed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from bedplate.catalog.strict import parse_table, read_data, read_regular, unprintable_problems
from bedplate.errors import DataError, ReadError

DROP_INS = Path("/etc/bedplate/catalog.d")
BUNDLES = "bundles"
"""The directory below DROP_INS in which imported bundles lie, each as NAME.toml."""


class RowKind(StrEnum):
    """What the rows of a file are about; each kind has a loader of its own."""

    STACK = "stack"
    MODELS = "models"
    ACCELERATORS = "accelerators"


ROW_TABLES = {
    RowKind.STACK: ("source", "component", "device", "release", "follow", "fact", "module"),
    RowKind.MODELS: ("model",),
    RowKind.ACCELERATORS: ("accelerator", "maker"),
}
"""The names of the tables of each kind."""
_DIRECTORIES = {RowKind.STACK: ".", RowKind.MODELS: "models", RowKind.ACCELERATORS: "accelerators"}
_PAGES = {
    RowKind.STACK: "docs/how-to/stack-rows.md",
    RowKind.MODELS: "docs/how-to/fit.md",
    RowKind.ACCELERATORS: "docs/how-to/fit.md",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFile:
    """The text of a file of rows; `name` stands for it in messages: a path, or the name alone of a file that ships."""

    name: str
    text: str
    tables: tuple[str, ...] | None = None
    """Of a bundle, the tables that one loader reads; None: all of the file."""

    def read_tables(self) -> dict[str, Any]:
        """The file as TOML has it. Raises DataError for what is no TOML, and for texts that no line can show."""
        table = parse_table(self.text, name=self.name)
        problems = unprintable_problems(table, self.name)
        if problems:
            raise DataError(problems)
        if self.tables is None:
            return table
        return {key: value for key, value in table.items() if key == "schema" or key in self.tables}


def read_shipped(path: Path) -> RowFile:
    """A file of rows that ships. Raises ReadError."""
    return RowFile(name=path.name, text=read_data(path))


def read_drop_ins(
    kind: RowKind, directory: Path | None = DROP_INS, *, bundles: Sequence[RowFile] | None = None
) -> tuple[RowFile, ...]:
    """The owner's files of a kind, by name, then what the bundles have of it.

    directory None, or one that is not there: no files of an owner. bundles None: those that were imported there. Raises
    ReadError for a directory or a file that cannot be read, and for a name that is no regular file.
    """
    own = _read_rows_in(directory / _DIRECTORIES[kind]) if directory is not None else ()
    bundles = read_bundles(directory) if bundles is None else bundles
    parts = (RowFile(name=bundle.name, text=bundle.text, tables=ROW_TABLES[kind]) for bundle in bundles)
    return (*own, *parts)


def read_bundles(directory: Path | None = DROP_INS) -> tuple[RowFile, ...]:
    """The bundles that were imported, by name, each whole. Raises ReadError as `read_drop_ins` does."""
    return _read_rows_in(directory / BUNDLES) if directory is not None else ()


def _read_rows_in(directory: Path) -> tuple[RowFile, ...]:
    try:
        paths = sorted(path for path in directory.iterdir() if path.suffix == ".toml" and not path.name.startswith("."))
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise ReadError(f"{directory}: cannot list the files of rows in it: {error.strerror}") from error
    return tuple(RowFile(name=str(path), text=read_regular(path)) for path in paths)


def rows_hint(kind: RowKind, files: Iterable[RowFile] = ()) -> str:
    """What to do about rows of these files that the loader refuses, with the page that says what they hold."""
    bundled = any(file.tables is not None for file in files)
    remove = " Rows of a bundle go with it: bedplate catalog remove NAME." if bundled else ""
    return f"Correct the rows; see {_PAGES[kind]}.{remove}"
