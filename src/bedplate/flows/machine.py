"""This machine, or a recording of one, read by the catalog's list of files: what every audit and every plan starts from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bedplate.catalog.knobs import knob_configs, knob_paths, read_knobs
from bedplate.host.facts import read_host
from bedplate.host.kernel.groups import read_groups
from bedplate.host.root.root import Root
from bedplate.host.stack.installed import StackDepth
from bedplate.host.system.device_speeds import read_device_speeds
from bedplate.model.device_speed import DeviceSpeed
from bedplate.model.facts.groups import Groups
from bedplate.model.facts.host import HostFacts
from bedplate.model.knob import Knob

LIVE = "live"
"""The origin of facts that were read of the machine itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineState:
    """All that plans read of a machine, at one time: facts, control groups, the catalog's rows, measured disks."""

    facts: HostFacts
    groups: Groups
    knobs: tuple[Knob, ...]
    io: tuple[DeviceSpeed, ...]
    """Of its measured disks."""


def read_facts(
    root: Root,
    knobs: tuple[Knob, ...],
    *,
    origin: str = LIVE,
    more_files: Iterable[str] = (),
    stack: StackDepth = StackDepth.NONE,
    environments: Iterable[str] = (),
) -> HostFacts:
    """The facts of a machine with the text of every file that a row of the catalog names, and of more files.

    `stack` says how much is read of what is installed, `environments` names Python environments beside those that are found.
    """
    files = sorted({*knob_paths(knobs), *more_files})
    return read_host(root, files, origin=origin, config_options=knob_configs(knobs), stack=stack, environments=environments)


def read_facts_of(
    recording: Path | None,
    knobs: tuple[Knob, ...],
    *,
    root: Root | None = None,
    stack: StackDepth = StackDepth.NONE,
    environments: Iterable[str] = (),
) -> HostFacts:
    """The facts of a recording, or of what another program wrote of a machine; without one, of `root` or this machine.

    `stack` and `environments` as for `read_facts`. Raises ReadError for what cannot be read.
    """
    if recording is None:
        return read_facts(root or Root(), knobs, stack=stack, environments=environments)
    from bedplate.host.formats.foreign import EXPECTED, read_foreign
    from bedplate.host.root.pipe import read_pipe
    from bedplate.host.root.recording import open_recording

    data = read_pipe(recording)
    if data is not None or recording.is_file():
        foreign = read_foreign(recording, data)
        if foreign is not None:
            return foreign
    opened = open_recording(recording, data, expected=EXPECTED)
    return read_facts(opened, knobs, origin=recording.name, stack=stack, environments=environments)


def read_machine(root: Root, *, origin: str = LIVE, more_files: Iterable[str] = ()) -> MachineState:
    """The machine below a root now. Raises ReadError for a recording that cannot be read."""
    knobs = read_knobs()
    return MachineState(
        facts=read_facts(root, knobs, origin=origin, more_files=more_files),
        groups=read_groups(root),
        knobs=knobs,
        io=tuple(read_device_speeds(root)),
    )
