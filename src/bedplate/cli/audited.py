"""A machine or a recording, read and judged: what `inspect` and `doctor` share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from bedplate import __version__
from bedplate.errors import AuditError, BedplateError, DataError, ReadError

if TYPE_CHECKING:
    from bedplate.cli.faces.paint import Screen
    from bedplate.cli.faces.report import Report
    from bedplate.model.facts.host import HostFacts
    from bedplate.model.knob import Knob


def add_from(parser: argparse.ArgumentParser) -> None:
    """--from, as both verbs have it."""
    parser.add_argument(
        "--from",
        dest="recording",
        metavar="PATH",
        type=Path,
        help="a recording: what bedplate record made, a directory or archive of /proc and /sys, or one file of lspci -vvv, "
        "nvidia-smi -q, rocm-smi --json, lsblk --json, hwloc or NCCL XML (default: this machine)",
    )


def read_report(recording: Path | None, *, suppress: Path | None = None) -> Report:
    """The facts of this machine (None) or of a recording, and what the audit says of them; suppress None: the host's file.

    Raises ReadError for a recording that cannot be read, DataError for a file of suppressions that is wrong.
    """
    import time

    from bedplate.catalog.findings import read_findings, read_suppressions
    from bedplate.catalog.knobs import read_knobs
    from bedplate.cli.faces.report import Report
    from bedplate.plan.audit import audit

    suppressions = read_suppressions(suppress)
    knobs, rows = read_knobs(), read_findings()
    facts = name_devices(_read_facts(recording, knobs))
    judged = audit(facts, knobs, rows, suppressions, today=time.strftime("%Y-%m-%d"))
    return Report(facts=facts, audit=judged, rows=rows, version=__version__)


def _read_facts(recording: Path | None, knobs: tuple[Knob, ...]) -> HostFacts:
    from bedplate.catalog.knobs import knob_configs, knob_paths
    from bedplate.host.root import Root

    if recording is None:
        from bedplate.host.facts import read_host

        return read_host(Root(), knob_paths(knobs), origin="live", config_options=knob_configs(knobs))
    if recording.is_file():
        from bedplate.host.foreign import read_foreign

        foreign = read_foreign(recording)
        if foreign is not None:
            return foreign
    from bedplate.host.facts import read_host
    from bedplate.host.recording import open_recording

    root = open_recording(recording)
    return read_host(root, knob_paths(knobs), origin=recording.name, config_options=knob_configs(knobs))


def name_devices(facts: HostFacts) -> HostFacts:
    """The same facts, with the catalog's names for accelerators that are known by their numbers only."""
    import re
    from dataclasses import replace

    unnamed = re.compile(r"(?:.* )?(?:Device )?[0-9a-f]{4}|", re.ASCII)
    bare = {one.address: (one.vendor, one.device) for one in facts.pci if unnamed.fullmatch(one.name)}
    if not bare:
        return facts
    from bedplate.catalog.accelerators import read_accelerator_names

    names = read_accelerator_names()
    named = {address: names[numbers] for address, numbers in bare.items() if numbers in names}
    return replace(
        facts,
        pci=tuple(replace(one, name=named.get(one.address, one.name)) for one in facts.pci),
        accelerators=tuple(
            replace(one, name=named.get(one.address or "", one.name)) if unnamed.fullmatch(one.name) else one
            for one in facts.accelerators
        ),
    )


def this_screen() -> Screen:
    """What standard output can: colour on a terminal unless NO_COLOR or TERM=dumb, its width, UTF-8 by the locale."""
    import os
    import shutil
    import sys

    from bedplate.cli.faces.paint import NARROWEST, Screen

    terminal = sys.stdout.isatty()
    colour = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"
    width = shutil.get_terminal_size((100, 24)).columns if terminal or "COLUMNS" in os.environ else 100
    encoding = (sys.stdout.encoding or "ascii").lower().replace("-", "")
    return Screen(width=max(NARROWEST, width), colour=colour, utf8=encoding == "utf8")


def run_audit(body: Callable[[], int]) -> int:
    """The outer door of both verbs: whatever goes wrong ends with 2, since 1 means that findings were made.

    Errors that the user can act on become AuditError; a bug shows its traceback.
    """
    try:
        return body()
    except (ReadError, DataError) as error:
        raise AuditError(error.message, hint=error.hint) from error
    except (BedplateError, BrokenPipeError):
        raise
    except Exception:
        import traceback

        traceback.print_exc()
        return AuditError.exit_code
