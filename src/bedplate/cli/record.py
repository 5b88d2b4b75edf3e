"""Record this machine's facts into one file that bedplate can analyse on another machine: the support bundle.

The file holds the text of those kernel files that bedplate reads, and the answers of vendors' libraries; nothing else.
Serial numbers, MAC addresses, UUIDs, host and user names, IP addresses and secrets are replaced. The command changes nothing
and needs no root; a file that this user may not read is recorded as denied.

examples:
  bedplate record                           write host.tar.zst into the current directory
  bedplate record -o /tmp/gpu-host.tar.xz   choose the name; its ending chooses the compression
  bedplate record --show                    list what would be recorded, and write nothing
  bedplate doctor --from host.tar.zst       analyse the recording on any machine
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from bedplate.cli.audit import reading_recording
from bedplate.cli.result import print_result
from bedplate.cli.talk import Talk
from bedplate.flows import record as recordings
from bedplate.report.recording import render_recorded, render_replaced, render_written


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `bedplate record`; the ending of --output chooses the compression."""
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        type=Path,
        help="file to write: FILE.tar.zst, .tar.xz, .tar.gz or .tar (default: host.tar.zst; host.tar.xz without zstd)",
    )
    parser.add_argument("--show", action="store_true", help="list what would be recorded, and write nothing")
    parser.add_argument(
        "--from",
        dest="recording",
        metavar="PATH",
        type=Path,
        help="read this recording instead of the machine, and redact it again",
    )
    parser.add_argument("--force", action="store_true", help="overwrite an existing file")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def main(arguments: argparse.Namespace) -> int:
    """Write one recording, or list with --show what would be in it; the exit status is 0.

    Raises UsageError for a file that is there or a wrong ending, AuditError (2) for a recording of --from that cannot be
    read, BedplateError when the file cannot be written.
    """
    output = recordings.choose_file(arguments.output, overwrite=arguments.force or arguments.show)
    begun = time.monotonic()
    with reading_recording(arguments.recording):
        recording = recordings.record(arguments.recording)
    manifest, sizes, links = recording.manifest, recording.sizes, recording.links
    if arguments.show:
        print_result(arguments, {**manifest, "files": sizes, "links": links}, render_recorded(manifest, sizes), indent=None)
        if not arguments.json:
            Talk().note(f"{len(sizes)} files, {len(links)} links; replaced: {render_replaced(recording.replaced)}")
        return 0
    size_bytes = recordings.write_recording(recording, output, overwrite=arguments.force)
    took_s = round(time.monotonic() - begun, 3)
    row = {"schema": 1, "file": str(output), "bytes": size_bytes, "files": len(sizes), "took_s": took_s}
    row |= {"redacted": manifest["redacted"], "denied": manifest["denied"]}
    text = render_written(str(output), len(sizes), size_bytes, took_s, recording.replaced)
    print_result(arguments, row, text, indent=None)
    if manifest["denied"] and os.geteuid() != 0 and not arguments.json:
        Talk().note("Some files can be read only by root; a recording made by root contains more.")
    return 0
