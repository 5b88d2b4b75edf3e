"""Where an antagonist runs: a systemd slice, control groups by their directories, or beside us with nothing around it.

The program must be born in its place: memory is charged to where it was first touched, and autogroup acts at the fork. So
the words that put it there come before its own, and they end in exec: the process that we started is the antagonist itself.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from bedplate.act import systemd
from bedplate.act.run import find_program
from bedplate.errors import PreflightError, UsageError

# Joins each control group, then becomes the program; nothing is put into the script's text.
_JOIN = 'n=$1; shift; while [ "$n" -gt 0 ]; do echo $$ > "$1/cgroup.procs" || exit 125; shift; n=$((n - 1)); done; exec "$@"'


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupTarget:
    """At most one of slice and cgroups; neither is a session of its own in the caller's group, as a user's login has."""

    slice: str = ""
    """"neighbour.slice": a transient scope below it, by systemd-run."""
    cgroups: tuple[Path, ...] = ()
    """Existing directories, one of cgroup v2 or one for each controller of v1."""
    properties: tuple[str, ...] = ()
    """Of the scope: "MemoryHigh=512M"."""
    prefix: tuple[str, ...] = ()
    """Words before the program: ("ionice", "-c", "3")."""

    def __str__(self) -> str:
        where = self.slice or " and ".join(map(str, self.cgroups)) or "no group of its own"
        return f"{where}, {' '.join(self.prefix)}" if self.prefix else where


PLAIN = CgroupTarget()


def enter(place: CgroupTarget, unit: str, argv: tuple[str, ...]) -> tuple[str, ...]:
    """The words that start argv in a place; `unit` names the scope."""
    inner = (*place.prefix, *argv)
    if place.slice:
        return systemd.scope_argv(inner, slice_name=place.slice, unit=unit, properties=place.properties)
    if place.cgroups:
        return ("sh", "-c", _JOIN, "sh", str(len(place.cgroups)), *map(str, place.cgroups), *inner)
    return inner


def check_place(place: CgroupTarget) -> None:
    """Refuse a place that is not there, before anything was started. Raises UsageError or PreflightError."""
    if place.slice and place.cgroups:
        raise UsageError(f"the antagonist's place: got slice {place.slice} and control groups, expected one of the two")
    if place.properties and not place.slice:
        raise UsageError("the antagonist's place: properties are those of a slice's scope; no slice is given")
    if place.slice:
        if not place.slice.endswith(".slice"):
            raise UsageError(f"the antagonist's place: got {place.slice!r}, expected a name such as neighbour.slice")
        if not systemd.can_make_scopes():
            raise PreflightError(
                f"{place.slice}: systemd is not running this host", hint="Omit the slice, or name control groups."
            )
        if os.geteuid() != 0:
            raise PreflightError(f"{place.slice}: only root may start a unit in it", hint="Run the same command with sudo.")
    for cgroup in place.cgroups:
        if not (cgroup / "cgroup.procs").is_file():
            raise UsageError(f"{cgroup}: is not a control group (it has no cgroup.procs)")
        if not os.access(cgroup / "cgroup.procs", os.W_OK):
            raise PreflightError(f"{cgroup}: cannot be written by this user", hint="Run the same command with sudo.")
    if place.prefix and find_program(place.prefix[0]) is None:
        raise PreflightError(f"{place.prefix[0]}: is not installed", hint="Install it, or omit the prefix.")
