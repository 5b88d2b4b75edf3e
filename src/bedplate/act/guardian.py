"""Programs that bedplate waits for do not outlive it, however it ends: a guardian ends what a killed bedplate left.

The guardian is a shell of its own, started before the first program. It reads over a pipe which process groups run; the
pipe closes when bedplate ends, by kill -9 too, and then it ends the groups that are left, grandchildren included.
PR_SET_PDEATHSIG (prctl(2)) would reach the direct child alone, and only once that has asked for it. A group that a program
makes for itself is not known to the guardian. A shell since it starts in a millisecond: a boot under emulation pays for each
interpreter.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading

_SCRIPT = """
groups=' '
while read -r sign group; do
    case $sign in
        +) groups="$groups$group " ;;
        -) case $groups in *" $group "*) groups="${groups%% $group *} ${groups#* $group }" ;; esac ;;
    esac
done
for signal in TERM KILL; do
    for group in $groups; do kill -$signal -$group; done
    left=50
    while [ $left -gt 0 ]; do
        alive=
        for group in $groups; do kill -0 -$group && alive=1; done
        [ -n "$alive" ] || exit 0
        sleep 0.1
        left=$((left - 1))
    done
done
"""

_lock = threading.Lock()
_watched: set[int] = set()
_pipe: int | None = None
_owner = 0
"""Process id of whoever started the guardian: after a fork the child starts its own."""


def watch(group: int) -> None:
    """End this process group (its number) should bedplate end before `release`: by SIGTERM, 5 s later by SIGKILL."""
    with _lock:
        _watched.add(group)
        _write(f"+ {group}\n")


def prepare() -> None:
    """Start the guardian unless it runs: before a program, so that no time is lost once it is there."""
    global _pipe, _owner
    with _lock:
        if _pipe is not None and _owner == os.getpid():
            return
        reading, writing = os.pipe()
        try:
            guardian = subprocess.Popen(
                ["/bin/sh", "-c", _SCRIPT, "bedplate-guardian"],
                stdin=reading,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
                cwd="/",
                start_new_session=True,  # Ctrl-C is for bedplate, which ends its programs itself
            )
        finally:
            os.close(reading)
        guardian.returncode = 0  # it outlives this object, which must not complain about that
        _pipe, _owner = writing, os.getpid()
        _watched.clear()


def release(group: int) -> None:
    """Forget a process group; one that is not watched is none of ours. Before its leader is reaped: until then nothing else
    can have the number, and another program's group with that number would be forgotten."""
    with _lock:
        if group in _watched:
            _watched.discard(group)
            _write(f"- {group}\n")


def _write(line: str) -> None:
    if _pipe is not None:
        with contextlib.suppress(BrokenPipeError):  # somebody ended the guardian: programs run on without one
            os.write(_pipe, line.encode())
