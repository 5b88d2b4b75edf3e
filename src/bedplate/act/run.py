"""The one door to other programs: an argv, an explicit environment, no stdin, a time limit, never a shell.

`run` waits for the end; `spawn` starts something that outlives the call (QEMU, swtpm) and is ended by its process id.
Each program gets a session of its own, so that Ctrl-C reaches us first and we end its whole process group. What `run`
started ends with us however we end (act/guardian.py).
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bedplate.act import guardian
from bedplate.act.files import naming, write_all
from bedplate.errors import CommandError, CommandTimeout
from bedplate.interrupts import hold_signals

TAIL_BYTES = 64 * 1024  # of output kept in memory when it goes to a log
_TERM_GRACE_S = 5.0
_POLL_S = 0.02
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

Argument = str | os.PathLike[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """How a program ended by itself, with a status that the caller takes for success.

    Times are wall-clock and CPU seconds.
    """

    argv: tuple[str, ...]
    status: int
    output: str
    """stdout; with stderr merged in unless `split` was asked for. The last 64 KiB when a log was given."""
    errors: str
    elapsed_s: float
    cpu_s: float
    """User and system seconds of the program and its waited-for children."""


def search_path() -> str:
    """PATH for every program; tests put a directory of fake programs before it with BEDPLATE_PATH_PREFIX."""
    prefix = os.environ.get("BEDPLATE_PATH_PREFIX")
    return f"{prefix}:{_PATH}" if prefix else _PATH


def find_program(name: str) -> str | None:
    """Absolute path of a program in `search_path`, never in the caller's PATH; None when it is not installed."""
    return shutil.which(name, path=search_path())


def base_environment() -> dict[str, str]:
    """What every program gets: a fixed PATH and locale, the caller's HOME and TMPDIR, and nothing else."""
    environment = {
        "PATH": search_path(),
        "LANG": "C.UTF-8",
        "HOME": os.environ.get("HOME", "/"),
    }
    for name in ("TMPDIR", "http_proxy", "https_proxy", "no_proxy"):
        if name in os.environ:
            environment[name] = os.environ[name]
    return environment


def run(
    argv: Sequence[Argument],
    *,
    timeout_s: float,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    log: Path | None = None,
    on_line: Callable[[str], None] | None = None,
    split: bool = False,
    ok: Sequence[int] = (0,),
    hint: str | None = None,
) -> Completed:
    """Run a program to its end and return what it printed.

    env is added to `base_environment()`. With log, the output is appended there, after the command as one line that can be
    pasted into a terminal. on_line is called with each line as it comes, without its newline. Raises CommandTimeout when
    it runs past timeout_s (the whole process group is killed), CommandError when it cannot start or ends with a status that
    is not in ok.
    """
    words = tuple(os.fspath(word) for word in argv)
    started = time.monotonic()
    usage_before = os.times()
    with _open_log(log) as sink:
        if sink is not None:
            _write_log(sink, f"$ {shlex.join(words)}\n".encode())
        process = None
        try:
            guardian.prepare()
            with hold_signals():  # Ctrl-C between the start and our knowing of it would leave the program running
                process = _start(words, env=env, cwd=cwd, split=split, hint=hint)
                guardian.watch(process.pid)
            output, errors = _collect(process, started + timeout_s, sink, on_line)
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            guardian.release(process.pid)
            status = process.wait()
        except BaseException:
            if process is not None and process.returncode is None:  # once it is reaped its number can be another's
                _end_group(process)
            raise
        finally:
            for pipe in (process.stdout, process.stderr) if process is not None else ():
                if pipe is not None:
                    pipe.close()
    usage = os.times()
    done = Completed(
        argv=words,
        status=status,
        output=output,
        errors=errors,
        elapsed_s=time.monotonic() - started,
        cpu_s=(usage.children_user - usage_before.children_user) + (usage.children_system - usage_before.children_system),
    )
    if status not in ok:
        tail = last_lines(errors or output)
        what = f"ended with status {status}" if status >= 0 else f"was killed by {signal.Signals(-status).name}"
        raise CommandError(f"{Path(words[0]).name}: {what}: {last_lines(tail, 1)}", status=status, tail=tail, hint=hint)
    return done


def spawn(
    argv: Sequence[Argument], *, log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.Popen[bytes]:
    """Start a program that goes on by itself, its output appended to log; raises CommandError when it cannot start."""
    words = tuple(os.fspath(word) for word in argv)
    with log.open("ab", buffering=0) as sink:
        _write_log(sink, f"$ {shlex.join(words)}\n".encode())
        try:
            return subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env={**base_environment(), **(env or {})},
                cwd=cwd,
                start_new_session=True,
            )
        except OSError as error:
            raise CommandError(f"{words[0]}: cannot start: {error.strerror}", status=None) from error


def last_lines(text: str, count: int = 12) -> str:
    """The last `count` lines of text that are not empty, joined by newlines: what of a long output goes into a message."""
    return "\n".join([line for line in text.splitlines() if line.strip()][-count:])


def _start(
    words: tuple[str, ...], *, env: Mapping[str, str] | None, cwd: Path | None, split: bool, hint: str | None
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if split else subprocess.STDOUT,
            env={**base_environment(), **(env or {})},
            cwd=cwd,
            start_new_session=True,
        )
    except OSError as error:
        raise CommandError(f"{words[0]}: cannot start: {error.strerror}", status=None, hint=hint) from error


def _collect(
    process: subprocess.Popen[bytes],
    deadline: float,
    sink: IO[bytes] | None,
    on_line: Callable[[str], None] | None,
) -> tuple[str, str]:
    held: dict[str, bytearray] = {"output": bytearray(), "errors": bytearray()}
    partial = bytearray()
    with selectors.DefaultSelector() as selector:
        for name, pipe in (("output", process.stdout), ("errors", process.stderr)):
            if pipe is not None:
                selector.register(pipe, selectors.EVENT_READ, name)
        while selector.get_map():
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise CommandTimeout(
                    f"{Path(os.fsdecode(process.args[0])).name}: did not finish within its time limit",  # type: ignore[index,arg-type]
                    status=None,
                    tail=last_lines(held["output"].decode(errors="replace")),
                )
            for key, _ in selector.select(min(left_s, 1.0)):
                chunk = os.read(key.fd, 65536)
                if not chunk:
                    selector.unregister(key.fileobj)
                    continue
                store = held[key.data]
                store += chunk
                if sink is not None:
                    _write_log(sink, chunk)
                    del store[:-TAIL_BYTES]
                if on_line is not None:
                    partial += chunk
                    *lines, rest = partial.split(b"\n")
                    partial = bytearray(rest)
                    for line in lines:
                        on_line(line.decode(errors="replace"))
    return held["output"].decode(errors="replace"), held["errors"].decode(errors="replace")


def _write_log(sink: IO[bytes], data: bytes) -> None:
    with naming(Path(sink.name)):
        write_all(sink.fileno(), data)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End the program with its group and reap it, the guardian told before; one that cannot be killed stays watched."""
    for signum in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signum)
        if _has_ended(process, time.monotonic() + _TERM_GRACE_S):
            guardian.release(process.pid)
            process.wait()
            return


def _has_ended(process: subprocess.Popen[bytes], deadline: float) -> bool:
    """Whether the program ends by then; it is not reaped."""
    while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_S)
    return True


class _open_log:
    """The log opened for appending, or None."""

    def __init__(self, path: Path | None) -> None:
        self._file: IO[bytes] | None = None
        self._path = path

    def __enter__(self) -> IO[bytes] | None:
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("ab", buffering=0)  # what a full disk refused must not be written again by close
        return self._file

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
