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
import errno
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bedplate import __version__
from bedplate.errors import BedplateError, PreflightError, UsageError

if TYPE_CHECKING:
    from bedplate.host.record.record import Recorded

HELP = "record the machine's facts, without identifiers, to analyse them elsewhere"


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
    from bedplate.catalog.knobs import knob_configs, knob_paths, read_knobs
    from bedplate.cli.audit import reading_recording
    from bedplate.host.record.record import SUFFIXES, record_host, render_archive
    from bedplate.host.root.recording import open_recording
    from bedplate.host.root.root import Root
    from bedplate.host.root.zstd import has_zstd

    output = arguments.output or Path("host.tar.zst" if has_zstd() else "host.tar.xz")
    suffix = next((ending for ending in SUFFIXES if output.name.endswith(ending)), None)
    if suffix is None:
        raise UsageError(f"{output}: the name does not end with one of {', '.join(SUFFIXES)}", hint="Name it host.tar.zst.")
    if output.exists() and not arguments.force and not arguments.show:
        raise _exists(output)

    begun = time.monotonic()
    knobs = read_knobs()
    with reading_recording(arguments.recording):
        recorded = record_host(
            Root() if arguments.recording is None else open_recording(arguments.recording),
            knob_paths(knobs),
            config_options=knob_configs(knobs),
            bedplate=__version__,
            recorded=_date(),
        )
    if arguments.show:
        _show(recorded, as_json=arguments.json)
        return 0
    data = render_archive(recorded, suffix)
    write_private(output, data, overwrite=arguments.force)
    took_s = round(time.monotonic() - begun, 3)
    record: dict[str, Any] = {
        "schema": 1,
        "file": str(output),
        "bytes": len(data),
        "files": len(recorded.files),
        "took_s": took_s,
    }
    if arguments.json:
        print(json.dumps(record | {"redacted": recorded.manifest["redacted"], "denied": recorded.manifest["denied"]}))
        return 0
    print(f"wrote {output}: {len(recorded.files)} files in {max(1, len(data) // 1024)} KiB, {took_s:.1f} s")
    print(f"replaced: {_replaced(recorded)}")
    if recorded.manifest["denied"] and os.geteuid() != 0:
        print("Some files can be read only by root; a recording made by root contains more.", file=sys.stderr)
    print(f"Check what it contains before you pass it on: tar -xOf {output} MANIFEST.json")
    return 0


def write_private(path: Path, data: bytes, *, overwrite: bool = True) -> None:
    """Write the whole file or nothing, with mode 0600. Raises PreflightError for a full disk, else BedplateError.

    Without `overwrite`, a file that another process made meanwhile stays: UsageError.
    """
    from bedplate.act.files import write_report

    claimed = False
    try:
        if not overwrite:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            claimed = True
        write_report(path, data, mode=0o600)
        claimed = False
    except FileExistsError as error:
        raise _exists(path) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise PreflightError(
                f"{path}: cannot write: {error.strerror}", hint="Free some space, or choose another place with -o."
            ) from error
        raise BedplateError(f"{path}: cannot write: {error.strerror}") from error
    finally:
        if claimed:
            path.unlink(missing_ok=True)


def _exists(path: Path) -> UsageError:
    return UsageError(f"{path}: already exists", hint="Choose another name with -o, or overwrite it with --force.")


def _date() -> str:
    """Now, or SOURCE_DATE_EPOCH, so that a recording can be made again byte by byte."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    when = int(epoch) if epoch.isascii() and epoch.isdigit() and len(epoch) < 12 else int(time.time())
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when))


def _show(recorded: Recorded, *, as_json: bool) -> None:
    manifest = recorded.manifest
    if as_json:
        sizes = {path: len(data) for path, data in sorted(recorded.files.items())}
        print(json.dumps({**manifest, "files": sizes, "links": recorded.links}))
        return
    for path, data in sorted(recorded.files.items()):
        print(f"{len(data):>9}  {_plain(path)}")
    for key, word in (("denied", "denied"), ("denied_names", "denied"), ("absent", "absent")):
        paths = manifest[key]
        for path in paths if isinstance(paths, list) else ():
            print(f"{word:>9}  {_plain(str(path))}")
    print(f"{len(recorded.files)} files, {len(recorded.links)} links; replaced: {_replaced(recorded)}", file=sys.stderr)


def _replaced(recorded: Recorded) -> str:
    counts = recorded.redactor.counts()
    return ", ".join(f"{count} {kind}" for kind, count in counts.items()) or "no identifier"


def _plain(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)
