"""The whole exception family. The message says what, which object, got, expected; the hint says what to do now.

A subclass exists only where a caller acts differently. `exit_code` is what the command line ends with; the table stands
in docs/reference/exit-codes.md.
"""

from __future__ import annotations

from collections.abc import Sequence


class BedplateError(Exception):
    """Something the user can understand and act on. Everything else that escapes is a bug and shows its traceback."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(BedplateError):
    """The command line or a value on it is wrong."""

    exit_code = 2


class PreflightError(BedplateError):
    """This host lacks something that the job needs; all of it is named at once."""

    exit_code = 3


class NotRunningError(BedplateError):
    """The virtual machine, or the endpoint in it, is not there."""

    exit_code = 4


class BusyError(BedplateError):
    """Another bedplate process holds the lock."""

    exit_code = 5


class ReadError(BedplateError):
    """A file could not be read, or its text is not what its format says."""


class NoMachineError(ReadError):
    """A directory or an archive is whole, and holds no tree of a machine; its files may still be texts that tell of one."""


class GoneError(BedplateError):
    """What was to be read or written is not there any more: its device, its module or its control group went away.

    There is nothing to take back then; a file that is there and cannot be read is a plain BedplateError.
    """


class NotAppliedError(BedplateError):
    """Nothing is applied, so there is nothing to confirm or to verify; 0 would say that it was kept, 1 that it differs."""

    exit_code = 8


class OutputError(BedplateError):
    """Standard output could not be written, so that the result is lost or cut; 1 and 2 would say something of it."""

    exit_code = 7


class AuditError(BedplateError):
    """`doctor` or `inspect` could not read what it was to judge; 1 would mean findings.

    `tune plan` and `record` too, for what --from names.
    """

    exit_code = 2


class DataError(BedplateError):
    """A data file (recipe, catalog row) breaks its schema: every problem of the file at once, each `file:key: text`."""

    def __init__(self, problems: Sequence[str], *, hint: str | None = None) -> None:
        super().__init__("\n".join(problems), hint=hint)
        self.problems = tuple(problems)


class ModelRefused(BedplateError):
    """A model file is truncated, hostile, unknown, or does not fit where it was asked to run."""


class ModelTooLarge(ModelRefused):
    """It would fit if missing_bytes more memory could be had: reclaim from others, then ask again."""

    def __init__(self, message: str, *, missing_bytes: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.missing_bytes = missing_bytes


class PlanRefused(BedplateError):
    """A plan of tuning must not be applied here: a co-owner, a missing file, a value that changed; nothing was changed."""

    exit_code = 6


class CommandError(BedplateError):
    """A subprocess could not start, ended with a status that means failure, or ran past its time.

    status is None when it never started or was killed for its time; tail holds its last lines.
    """

    def __init__(self, message: str, *, status: int | None, tail: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.tail = tail


class CommandTimeout(CommandError):
    """A subprocess had not ended when its time was over, and was ended; tail holds what it had said until then."""


class DownloadError(BedplateError):
    """A file could not be fetched: its server, the network or its content is the reason. What came stays, to go on from.

    status: the server's last HTTP status, where that is the reason; None elsewhere.
    """

    def __init__(self, message: str, *, status: int | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class BuildError(BedplateError):
    """A phase of a build failed; nothing of it was published."""


class BootError(BedplateError):
    """A machine was started and did not come to the state it was asked for."""
