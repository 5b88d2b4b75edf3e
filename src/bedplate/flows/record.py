"""Record this machine's facts, redacted, into one file that bedplate can analyse on another machine."""

from __future__ import annotations

import errno
import os
import time
from dataclasses import dataclass
from pathlib import Path

from bedplate import __version__
from bedplate.act.files import write_report
from bedplate.catalog.kernel_log import read_kernel_messages
from bedplate.catalog.knobs import knob_configs, knob_paths, read_knobs
from bedplate.errors import BedplateError, PreflightError, UsageError
from bedplate.host.record.record import SUFFIXES, Recorded, record_host, render_archive
from bedplate.host.root.recording import open_recording
from bedplate.host.root.root import Root
from bedplate.host.root.zstd import has_zstd


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedMachine:
    """What was read of a machine, redacted, before it is written."""

    recorded: Recorded

    @property
    def manifest(self) -> dict[str, object]:
        """MANIFEST.json of the archive: what is absent or denied, and how many identifiers were replaced."""
        return self.recorded.manifest

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each file, by its path."""
        return {path: len(data) for path, data in sorted(self.recorded.files.items())}

    @property
    def links(self) -> dict[str, str]:
        """Target of each symbolic link, by its path."""
        return self.recorded.links

    @property
    def replaced(self) -> dict[str, int]:
        """How many identifiers of each kind were replaced."""
        return self.recorded.redactor.counts()


def choose_file(file: Path | None, *, overwrite: bool) -> Path:
    """Where a recording goes; None: host.tar.zst in the working directory, or host.tar.xz where Python has no zstd.

    Raises UsageError for an ending that names no archive, and for a file that exists, unless overwrite.
    """
    file = file or Path("host.tar.zst" if has_zstd() else "host.tar.xz")
    if not file.name.endswith(tuple(SUFFIXES)):
        raise UsageError(f"{file}: the name does not end with one of {', '.join(SUFFIXES)}", hint="Name it host.tar.zst.")
    if file.exists() and not overwrite:
        raise _exists(file)
    return file


def record(recording: Path | None = None) -> RecordedMachine:
    """Read this machine, or the machine of a recording, which is redacted again; nothing is written.

    Raises ReadError for a recording that cannot be read.
    """
    knobs = read_knobs()
    recorded = record_host(
        Root() if recording is None else open_recording(recording),
        knob_paths(knobs),
        config_options=knob_configs(knobs),
        kernel_rows=read_kernel_messages().rows,
        bedplate=__version__,
        recorded=_date(),
    )
    return RecordedMachine(recorded=recorded)


def write_recording(recording: RecordedMachine, file: Path, *, overwrite: bool) -> int:
    """Write the archive that the ending of the file names, whole and with mode 0600; its size in bytes.

    Raises UsageError for a file that exists, unless overwrite, PreflightError for a full disk, else BedplateError.
    """
    suffix = next(ending for ending in SUFFIXES if file.name.endswith(ending))
    data = render_archive(recording.recorded, suffix)
    write_private(file, data, overwrite=overwrite)
    return len(data)


def write_private(path: Path, data: bytes, *, overwrite: bool = True) -> None:
    """Write the whole file or nothing, with mode 0600. Raises PreflightError for a full disk, else BedplateError.

    Without `overwrite`, a file that another process made meanwhile stays: UsageError.
    """
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
