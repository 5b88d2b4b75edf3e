"""Record what this machine says of itself into one file, to be read on another one: the support bundle.

It holds the text of the kernel's files that bedplate's readers ask for and the answers of vendors' libraries, nothing else.
Serial numbers, MAC addresses, UUIDs, names of hosts and people, IP addresses and secrets are replaced. It needs no root and
changes nothing; what this user may not read is recorded as denied.

examples:
  bedplate record                           write host.tar.zst here
  bedplate record -o /tmp/gpu-host.tar.xz   choose the name, and with it the packing
  bedplate record --show                    list what would be recorded, and write nothing
  bedplate doctor --from host.tar.zst       read it, here or anywhere
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bedplate import __version__
from bedplate.errors import BedplateError, UsageError

if TYPE_CHECKING:
    from bedplate.host.record import Recorded

HELP = "record what this machine says of itself, without identifiers, to be read elsewhere"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        type=Path,
        help="the recording: FILE.tar.zst, .tar.xz, .tar.gz or .tar (default: host.tar.zst; host.tar.xz without zstd)",
    )
    parser.add_argument("--show", action="store_true", help="list what would be recorded, and write nothing")
    parser.add_argument(
        "--from", dest="recording", metavar="PATH", type=Path, help="record a recording again, redacted anew"
    )
    parser.add_argument("--force", action="store_true", help="replace the file if it is there")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def main(arguments: argparse.Namespace) -> int:
    from bedplate.catalog.knobs import knob_configs, knob_paths, read_knobs
    from bedplate.host.record import SUFFIXES, record_host, render_archive
    from bedplate.host.recording import open_recording
    from bedplate.host.root import Root
    from bedplate.host.zstd import has_zstd

    output = arguments.output or Path("host.tar.zst" if has_zstd() else "host.tar.xz")
    suffix = next((one for one in SUFFIXES if output.name.endswith(one)), None)
    if suffix is None:
        raise UsageError(f"{output}: the name does not end with one of {', '.join(SUFFIXES)}", hint="Name it host.tar.zst.")
    if output.exists() and not arguments.force and not arguments.show:
        raise UsageError(f"{output}: is there already", hint="Choose another name with -o, or replace it with --force.")

    begun = time.monotonic()
    knobs = read_knobs()
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
    write_private(output, data)
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
        print("Some files may be read by root only; recorded by root, the recording says more.", file=sys.stderr)
    print(f"Look into it before you give it away: tar -xOf {output} MANIFEST.json")
    return 0


def write_private(path: Path, data: bytes) -> None:
    """The whole file or none, which only its owner may read."""
    import tempfile

    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    except OSError as error:
        raise BedplateError(f"{path}: cannot write: {error.strerror}") from error
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise BedplateError(f"{path}: cannot write: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


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
    return "".join(one if one.isprintable() else "?" for one in text)
