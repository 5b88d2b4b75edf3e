"""A kind: one table of machine.toml, with its checks, the files that it becomes, and when it takes effect.

A new table is a dataclass in model/, one module here with a ConfigKind, and a line in kinds.py.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from bedplate.model.config_change import RenderedFile, UnitAction, UnitVerb
from bedplate.model.machine_config import MachineConfig

MOST_ENTRIES = 64
PREPARE_FRONT = UnitAction(verb=UnitVerb.RESTART, unit="bedplate-front-var.service")
"""`serve prepare`, as at a boot: takes over [front], and makes a new certificate where the host has another name."""


def no_files(config: MachineConfig) -> tuple[RenderedFile, ...]:
    """The files of a table that is read by bedplate itself: none, whatever `config` says."""
    del config
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigKind:
    """One table or key at the top of machine.toml."""

    table: str
    """Its key in the file: "network"."""
    check: Callable[[MachineConfig], list[str]]
    """What is wrong with it, each as "network.link[0].mtu: got 1, expected 1280 to 9216"; [] for nothing."""
    render: Callable[[MachineConfig], tuple[RenderedFile, ...]] = no_files
    """Its files; only called for a configuration in which nothing is wrong."""
    cuts_off: bool = False
    """A mistake in it can make the machine unreachable."""
    later: str = ""
    """Why a change does not take effect at once, as a sentence that follows "[table]"; "" where it does."""


def check_range(key: str, value: int, least: int, most: int) -> list[str]:
    """A problem where the number is outside of the bounds, which are both allowed; [] otherwise."""
    return [] if least <= value <= most else [f"{key}: got {value}, expected {least} to {most}"]


def check_length(key: str, entries: Collection[object]) -> list[str]:
    """A problem where the list has more than 64 entries; [] otherwise."""
    return [] if len(entries) <= MOST_ENTRIES else [f"{key}: got {len(entries)} entries, expected at most {MOST_ENTRIES}"]


def check_each(key: str, entries: Collection[str], is_right: Callable[[str], bool], expected: str) -> list[str]:
    """Problems of a list of texts: too many, one that is not right, one that stands twice."""
    problems = check_length(key, entries)
    for index, entry in enumerate(entries):
        if not is_right(entry):
            problems.append(f"{key}[{index}]: got {shown(entry)}, expected {expected}")
    repeated = sorted({entry for entry in entries if list(entries).count(entry) > 1})
    return problems + [f"{key}: names {shown(entry)} twice" for entry in repeated]


def shown(text: str) -> str:
    """A text as a message can hold it, in quotes, cut after 80 characters."""
    return repr(text) if len(text) <= 80 else repr(text[:80]) + "..."
