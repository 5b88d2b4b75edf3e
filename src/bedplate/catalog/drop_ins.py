"""Files of rows that a machine's owner adds in /etc/bedplate/catalog.d: of the stack in it, of other kinds below it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from bedplate.catalog.strict import parse_table, read_data, read_regular, unprintable_problems
from bedplate.errors import DataError, ReadError

DROP_INS = Path("/etc/bedplate/catalog.d")


class RowKind(StrEnum):
    """What the rows of a file are about; each kind has a loader of its own."""

    STACK = "stack"
    MODELS = "models"
    ACCELERATORS = "accelerators"


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

    def read_tables(self) -> dict[str, Any]:
        """The file as TOML has it. Raises DataError for what is no TOML, and for texts that no line can show."""
        table = parse_table(self.text, name=self.name)
        problems = unprintable_problems(table, self.name)
        if problems:
            raise DataError(problems)
        return table


def read_shipped(path: Path) -> RowFile:
    """A file of rows that ships. Raises ReadError."""
    return RowFile(name=path.name, text=read_data(path))


def read_drop_ins(kind: RowKind, directory: Path | None = DROP_INS) -> tuple[RowFile, ...]:
    """The files *.toml of a kind, by name; () where there is no such directory, and for None.

    They lie in `directory` itself for the stack, in `directory`/KIND for other kinds. Raises ReadError for a directory or
    a file that cannot be read, and for a name that is no regular file.
    """
    if directory is None:
        return ()
    place = directory / _DIRECTORIES[kind]
    try:
        paths = sorted(path for path in place.iterdir() if path.suffix == ".toml" and not path.name.startswith("."))
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise ReadError(f"{place}: cannot list the files of rows in it: {error.strerror}") from error
    return tuple(RowFile(name=str(path), text=read_regular(path)) for path in paths)


def rows_hint(kind: RowKind) -> str:
    """What to do about rows that the loader refuses, with the page that says what they hold."""
    return f"Correct the rows; see {_PAGES[kind]}."
