"""The arms natively on a host with control groups v1 and no service manager: plain processes, nice, and v1's own weights.

The v1 rows are equivalents of what the plan sets, not the plan: cpu.shares 100:1, a memory limit on the neighbour, the idle
I/O class. Rows of memory and page cache need a limit around engine and neighbour in every arm, since no sane neighbour fills
this whole host; all others of the stock arm run without any group: they are the control without a harness.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path

from bedplate.act.process import ProcessIdentity, end_process, read_process
from bedplate.act.run import spawn
from bedplate.errors import BedplateError, PreflightError
from bedplate.interrupts import hold_signals
from bedplate.prove.lab.antagonists import PLAIN, CgroupTarget, evict, read_scale
from bedplate.prove.lab.antagonists.fill import Scale
from bedplate.prove.lab.antagonists.place import enter
from bench.neighbours.rows import Row, Victim
from bench.neighbours.site import Lengths, wait_healthy

STOCK, NICE, GROUPS = "stock", "nice -10", "groups v1"
_V1 = Path("/sys/fs/cgroup")
_NAME = "bedplate-bench"
_ENGINE_SHARES, _NEIGHBOUR_SHARES = 10000, 100  # 100:1
_BOX_BYTES = 1600 << 20
"""Around engine and neighbour in rows of memory: 675 MiB of weights, some 250 of the engine's own, the rest for both."""
_ENGINE_OWN_BYTES = 300 << 20
_NEIGHBOUR_BYTES = 450 << 20
_BOXED = {"mapped", "memory", "scan"}
_IDLE_IO = ("ionice", "-c", "3")
_LIBRARIES = "usr/lib/x86_64-linux-gnu"


class HostSite:
    name = "host"
    arms: tuple[str, ...] = (STOCK, NICE, GROUPS)
    port: int
    scratch: Path
    load_file: Path
    mapped_file: Path
    trace_s = 8.0
    overheads_s = (1.0, 3.0, 1.0)
    trace_tokens = 0.05
    io_file_bytes = 1 << 30

    def __init__(self, directory: Path, tree: Path, small: Path, trace: Path) -> None:
        """directory holds logs, a copy of the model to load and the antagonists' files; tree is the engine's."""
        self.scratch = directory
        self._tree = tree
        self._models = {Victim.SMALL: small, Victim.MAPPED: small, Victim.TRACE: trace}
        self.mapped_file = small
        self.load_file = directory / "load.gguf"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._engine: subprocess.Popen[bytes] | None = None
        self._groups: list[Path] = []
        for controller in ("cpu", "memory"):
            if not (_V1 / controller / "cgroup.procs").is_file():
                raise PreflightError(f"{_V1 / controller}: is no control group v1", hint="Measure with --guest alone.")
        self.remove_left()
        box = self._make("memory", f"{_NAME}-box")
        (box / "memory.limit_in_bytes").write_text(str(_BOX_BYTES))

    def lengths(self, victim: Victim) -> Lengths:
        return Lengths(input_tokens=8, output_tokens=24)

    def enter(self, arm: str) -> None:
        if arm != GROUPS:
            return
        engine, neighbour = self._make("cpu", f"{_NAME}-engine"), self._make("cpu", f"{_NAME}-neighbour")
        (engine / "cpu.shares").write_text(str(_ENGINE_SHARES))
        (neighbour / "cpu.shares").write_text(str(_NEIGHBOUR_SHARES))
        limit = self._make("memory", f"{_NAME}-box/neighbour")
        (limit / "memory.limit_in_bytes").write_text(str(_NEIGHBOUR_BYTES))

    def changed(self, arm: str) -> str:
        if arm != GROUPS:
            return "engine started by nice -n -10" if arm == NICE else "plain processes, each in a session of its own"
        shares = [(_V1 / "cpu" / f"{_NAME}-{group}" / "cpu.shares").read_text().strip() for group in ("engine", "neighbour")]
        limit = int((_V1 / "memory" / f"{_NAME}-box/neighbour" / "memory.limit_in_bytes").read_text())
        return f"cpu.shares {shares[0]}:{shares[1]}; neighbour's memory limit {limit >> 20} MiB, I/O class idle"

    def leave(self, arm: str) -> None:
        self.stop_engine()
        for group in reversed(self._groups[1:]):
            _remove(group)
        del self._groups[1:]

    def start_engine(self, arm: str, victim: Victim) -> None:
        self.stop_engine()
        libraries = self._tree / _LIBRARIES
        path = ":".join(str(libraries / part) for part in ("", "llama"))
        argv = [str(libraries / "ld-linux-x86-64.so.2"), "--library-path", path, str(self._tree / "usr/bin/llama-server")]
        argv += ["--model", str(self._models[victim]), "--alias", "model", "--threads", "2", "--threads-batch", "2"]
        argv += ["--host", "127.0.0.1", "--port", str(self.port), "--ctx-size", "4096", "--parallel", "4"]
        argv += ["--cache-ram", "0", "--fit", "off", "--no-warmup", "--offline", "--no-webui"]
        groups: list[Path] = []
        if victim.is_mapped:
            argv.append("--no-repack")
            evict(self.mapped_file)  # pages stay charged to the group that touched them first
            groups.append(_V1 / "memory" / f"{_NAME}-box")
        if arm == GROUPS:
            groups.append(_V1 / "cpu" / f"{_NAME}-engine")
        nice = ("nice", "-n", "-10") if arm == NICE else ()
        words = enter(CgroupTarget(cgroups=tuple(groups), prefix=nice), "", tuple(argv))
        with hold_signals():
            self._engine = spawn(words, log=self.scratch / "engine.log", cwd=libraries / "ggml/backends0")
        try:
            wait_healthy(self.port, timeout_s=60)
        except BedplateError as error:
            tail = (self.scratch / "engine.log").read_text(errors="replace")[-600:]
            raise BedplateError(f"{error.message}: {tail}") from error

    def stop_engine(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            process: ProcessIdentity | None = read_process(engine.pid)
            if process is not None:
                end_process(process, grace_s=5.0)
            engine.wait(timeout=10)

    def engine_pids(self) -> tuple[int, ...]:
        return (self._engine.pid,) if self._engine is not None and self._engine.poll() is None else ()

    def scale(self) -> Scale:
        real = read_scale()
        return Scale(
            cpus=real.cpus,
            memory_bytes=_BOX_BYTES,
            available_bytes=_BOX_BYTES - _ENGINE_OWN_BYTES,
            llc_bytes=real.llc_bytes,
        )

    def neighbour(self, arm: str, row: Row) -> CgroupTarget:
        boxed = row.id in _BOXED
        if arm != GROUPS:
            return CgroupTarget(cgroups=(_V1 / "memory" / f"{_NAME}-box",)) if boxed else PLAIN
        groups = [_V1 / "cpu" / f"{_NAME}-neighbour", _V1 / "memory" / f"{_NAME}-box/neighbour"]
        return CgroupTarget(cgroups=tuple(groups), prefix=_IDLE_IO)

    def loader(self, arm: str, argv: tuple[str, ...]) -> tuple[str, ...]:
        groups = (_V1 / "cpu" / f"{_NAME}-engine",) if arm == GROUPS else ()
        nice = ("nice", "-n", "-10") if arm == NICE else ()
        return enter(CgroupTarget(cgroups=groups, prefix=nice), "", argv)

    def foreign(self, begin_s: float, end_s: float) -> float:
        return 0.0

    def close(self) -> None:
        self.stop_engine()
        self.remove_left()

    def remove_left(self) -> None:
        """Groups of this run, and of one that was killed."""
        for controller in ("cpu", "memory"):
            found = [parent for parent in (_V1 / controller).glob(f"{_NAME}-*") if parent.is_dir()]
            for group in [*(sub for parent in found for sub in parent.iterdir() if sub.is_dir()), *found]:
                _remove(group)
        self._groups.clear()

    def _make(self, controller: str, name: str) -> Path:
        group = _V1 / controller / name
        group.mkdir(exist_ok=True)
        self._groups.append(group)
        return group


def _remove(group: Path) -> None:
    """A group empties some moments after its last process ended; pages that it holds are given back first."""
    deadline = time.monotonic() + 5.0
    while group.is_dir():
        try:
            if (group / "memory.force_empty").exists():
                (group / "memory.force_empty").write_text("0")
        except OSError:
            pass
        try:
            os.rmdir(group)  # noqa: PTH106  (a control group's files are not removed)
        except OSError as error:
            if time.monotonic() > deadline:
                raise BedplateError(f"{group}: cannot be removed: {error.strerror}") from error
            time.sleep(0.1)
