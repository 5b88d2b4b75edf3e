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
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bedplate.report.recording import render_recorded, render_replaced

if TYPE_CHECKING:
    from bedplate.flows.record import RecordedMachine


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
    from bedplate.cli.audit import reading_recording
    from bedplate.flows import record as recordings

    output = recordings.choose_file(arguments.output, overwrite=arguments.force or arguments.show)
    begun = time.monotonic()
    with reading_recording(arguments.recording):
        recording = recordings.record(arguments.recording)
    if arguments.show:
        _show(recording, as_json=arguments.json)
        return 0
    size_bytes = recordings.write_recording(recording, output, overwrite=arguments.force)
    took_s = round(time.monotonic() - begun, 3)
    manifest, files = recording.manifest, len(recording.sizes)
    if arguments.json:
        row = {"schema": 1, "file": str(output), "bytes": size_bytes, "files": files, "took_s": took_s}
        print(json.dumps(row | {"redacted": manifest["redacted"], "denied": manifest["denied"]}))
        return 0
    print(f"wrote {output}: {files} files in {max(1, size_bytes // 1024)} KiB, {took_s:.1f} s")
    print(f"replaced: {render_replaced(recording.replaced)}")
    if manifest["denied"] and os.geteuid() != 0:
        print("Some files can be read only by root; a recording made by root contains more.", file=sys.stderr)
    print(f"Check what it contains before you pass it on: tar -xOf {output} MANIFEST.json")
    return 0


def _show(recording: RecordedMachine, *, as_json: bool) -> None:
    manifest, sizes, links = recording.manifest, recording.sizes, recording.links
    if as_json:
        print(json.dumps({**manifest, "files": sizes, "links": links}))
        return
    print(render_recorded(manifest, sizes), end="")
    print(f"{len(sizes)} files, {len(links)} links; replaced: {render_replaced(recording.replaced)}", file=sys.stderr)
