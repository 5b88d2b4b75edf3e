"""This machine, or a recording of one, read by the catalog's list of files: what every audit and every plan starts from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bedplate.catalog.knobs import knob_configs, knob_paths, read_knobs
from bedplate.errors import NoMachineError, ReadError
from bedplate.host.facts import read_host
from bedplate.host.root.root import Root
from bedplate.host.stack.installed import StackDepth
from bedplate.model.facts.host import HostFacts
from bedplate.model.kernel_log_row import KernelLogRow
from bedplate.model.knob import Knob

if TYPE_CHECKING:
    from bedplate.host.formats.foreign import ForeignFacts
    from bedplate.model.device_speed import DeviceSpeed
    from bedplate.model.facts.groups import Groups

STANDARD_INPUT = Path("/dev/stdin")
"""What "-" stands for where a recording is named."""
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
    kernel_rows: Sequence[KernelLogRow] = (),
    stack: StackDepth = StackDepth.NONE,
    environments: Iterable[str] = (),
) -> HostFacts:
    """The facts of a machine with the text of every file that a row of the catalog names, and of more files.

    With kernel_rows, also what these rows know in the kernel's log. `stack` says how much is read of what is installed,
    `environments` names Python environments beside those that are found.
    """
    files = sorted({*knob_paths(knobs), *more_files})
    return read_host(
        root,
        files,
        origin=origin,
        config_options=knob_configs(knobs),
        kernel_rows=kernel_rows,
        stack=stack,
        environments=environments,
    )


def read_facts_of(
    recording: Path | None,
    knobs: tuple[Knob, ...],
    *,
    root: Root | None = None,
    kernel_rows: Sequence[KernelLogRow] = (),
    stack: StackDepth = StackDepth.NONE,
    environments: Iterable[str] = (),
) -> HostFacts:
    """The facts of a recording, or of texts that other programs wrote of a machine; without one, of `root` or this machine.

    A recording is a file, a directory, an archive or a pipe; "-" is the standard input. The rest as for `read_facts`. Raises
    ReadError for what cannot be read, and for an input in which nothing of a machine was found.
    """
    if recording is None:
        return read_facts(root or Root(), knobs, kernel_rows=kernel_rows, stack=stack, environments=environments)
    from bedplate.host.formats.foreign import EXPECTED, describe_formats, read_head, read_text_file
    from bedplate.host.root.pipe import read_pipe
    from bedplate.host.root.recording import open_recording

    path, name = (STANDARD_INPUT, "standard input") if str(recording) == "-" else (recording, recording.name)
    where = name if path is STANDARD_INPUT else str(path)
    data = read_pipe(path)
    if data is not None or path.is_file():
        told = read_text_file(path, data, name=name)
        if told is not None:
            return _read_told(told, knobs, name, kernel_rows)
    try:
        opened = open_recording(path, data, expected=EXPECTED)
        facts = read_facts(opened, knobs, origin=name, kernel_rows=kernel_rows, stack=stack, environments=environments)
    except NoMachineError:
        told = _read_texts(path, data, name)
        if told is None:
            raise
        return _read_told(told, knobs, name, kernel_rows)
    except ReadError as error:
        head = read_head(path, data) if data is not None or path.is_file() else None
        if head is None or not head.strip():
            raise
        why = "no part of the text is in a format that bedplate reads"
        raise ReadError(f"{where}: {why}", hint=describe_formats(head)) from error
    if not facts.holds_machine:
        raise ReadError(f"{where}: holds nothing of a machine: no processor, memory, device or kernel", hint=EXPECTED)
    return facts


def _read_texts(path: Path, data: bytes | None, name: str) -> ForeignFacts | None:
    """What the texts in a directory or an archive tell; None where there are none."""
    from bedplate.host.formats.foreign import read_text_files
    from bedplate.host.root.recording import read_contents

    return read_text_files(read_contents(path, data), name)


def _read_told(told: ForeignFacts, knobs: tuple[Knob, ...], name: str, kernel_rows: Sequence[KernelLogRow]) -> HostFacts:
    """The facts of texts, with those of files of the machine that stand in them."""
    from bedplate.host.formats.join import SectionFacts, join_facts, without_unread

    tree = told.files
    if not tree.files:
        return told.facts
    facts = without_unread(
        read_facts(tree, knobs, origin=name, kernel_rows=kernel_rows), lambda where: tree.resolve(where) is not None
    )
    if facts.kernel_log.unknown is None:
        facts = replace(facts, kernel_log=replace(facts.kernel_log, source=name))
    joined = join_facts([SectionFacts(facts), SectionFacts(told.facts)], name)
    conflicts = tuple(dict.fromkeys((*told.facts.conflicts, *joined.conflicts)))
    return replace(joined, texts=told.facts.texts, conflicts=conflicts)


def read_machine(root: Root, *, origin: str = LIVE, more_files: Iterable[str] = ()) -> MachineState:
    """The machine below a root now. Raises ReadError for a recording that cannot be read."""
    from bedplate.host.kernel.groups import read_groups
    from bedplate.host.system.device_speeds import read_device_speeds

    knobs = read_knobs()
    return MachineState(
        facts=read_facts(root, knobs, origin=origin, more_files=more_files),
        groups=read_groups(root),
        knobs=knobs,
        io=tuple(read_device_speeds(root)),
    )
