"""What `inspect` and `doctor` share, and all verbs with --from: where the machine comes from, and how they end."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bedplate.errors import AuditError, BedplateError, DataError, ReadError


def add_from(parser: argparse.ArgumentParser) -> None:
    """Add --from PATH to a verb's parser: its place in the arguments is `recording`, a Path or None for this machine."""
    parser.add_argument(
        "--from",
        dest="recording",
        metavar="PATH",
        type=Path,
        help="read this instead of the machine: a file of `bedplate record`, a directory or archive with /proc and /sys, or "
        "text that programs printed (nvidia-smi, lspci, dmesg, lscpu, collect_env and others), as a file, a directory of "
        "files, an archive, or - for standard input",
    )


@contextmanager
def reading_recording(recording: Path | None) -> Iterator[None]:
    """What is wrong with a recording becomes AuditError, as doctor and inspect have it; None: of this machine, as it is."""
    try:
        yield
    except ReadError as error:
        if recording is None:
            raise
        raise AuditError(error.message, hint=error.hint) from error


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
