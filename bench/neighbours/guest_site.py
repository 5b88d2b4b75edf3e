"""The arms in an ordinary Debian 13 guest: services in system.slice, tuned, a drop-in with Nice=, and `bedplate tune`."""

from __future__ import annotations

import json
import re
import sys
import time
from dataclasses import replace
from pathlib import Path

from bedplate.act.run import run
from bedplate.errors import BedplateError, CommandError
from bedplate.host.root.root import Root
from bedplate.prove.lab.antagonists import CgroupTarget, evict, read_scale
from bedplate.prove.lab.antagonists.fill import Scale
from bedplate.prove.lab.victims.engine import find_listeners
from bench.neighbours.rows import Row, Victim
from bench.neighbours.site import ArmError, Lengths, wait_healthy

STOCK, NICE, BEDPLATE = "stock", "nice -10", "bedplate"
TUNED = ("throughput-performance", "latency-performance", "accelerator-performance")
UNIT = "llama-server.service"
SHARE = Path("/share")
FOREIGN = "foreign.jsonl"
_DROP_IN = Path("/run/systemd/system") / f"{UNIT}.d/bench.conf"
_DEFAULTS = Path("/etc/default/llama-server")
_CGROUP = Path("/sys/fs/cgroup")
_SYSCTLS = ("vm.swappiness", "vm.dirty_ratio", "vm.dirty_background_ratio", "kernel.sched_autogroup_enabled")
_SETTLE_S = 4.0  # what was started for a change ends
_SLICE_FILES = ("cpu.weight", "cpu.idle", "memory.low", "memory.high", "memory.max", "io.weight")
_SWAP, _SWAP_BYTES = Path("/scratch/swap"), 512 << 20


class GuestSite:
    name = "guest"
    arms: tuple[str, ...] = (STOCK, *(f"tuned {profile}" for profile in TUNED), NICE, BEDPLATE)
    port = 8080
    scratch = Path("/scratch")
    load_file = Path("/scratch/load.gguf")
    mapped_file = Path("/scratch/mapped.gguf")
    io_file_bytes = 512 << 20
    trace_s = 10.0
    overheads_s = (12.0, 8.0, 3.0)
    trace_tokens = 0.01

    def __init__(self) -> None:
        self._entered = ""
        self._disk = ""
        self._before: dict[str, str] = {}
        self._controllers = _controllers()

    def lengths(self, victim: Victim) -> Lengths:
        if victim.is_mapped:  # a token takes a tenth of a second and more where every instruction is emulated
            return Lengths(input_tokens=4, output_tokens=12)
        return Lengths(input_tokens=16, output_tokens=24)

    def enter(self, arm: str) -> None:
        self._entered = arm
        self._before = _sysctls()
        if arm.startswith("tuned "):
            profile = arm.removeprefix("tuned ")
            run(["systemctl", "start", "tuned.service"], timeout_s=120)
            run(["tuned-adm", "profile", profile], timeout_s=120)
            active = run(["tuned-adm", "active"], timeout_s=60).output
            if profile not in active:
                raise ArmError(f"tuned: asked for {profile}, it says: {active.strip()}")
        elif arm == NICE:
            _write_drop_in("Nice=-10")
        elif arm == BEDPLATE:
            _write_drop_in("Slice=inference.slice")
            self._measure_disk()

    def changed(self, arm: str) -> str:
        before = self._before
        controllers = [] if (now := _controllers()) == self._controllers else [f"controllers {self._controllers} -> {now}"]
        changed = [f"{name} {before[name]} -> {value}" for name, value in _sysctls().items() if value != before[name]]
        return "; ".join(changed + controllers + ([self._disk, *_slices()] if arm == BEDPLATE else []))

    def _measure_disk(self) -> None:
        """Once, as a person would after installing: what io.cost and the dirty limits are computed from."""
        if self._disk.startswith("disk measured"):
            return
        self.stop_engine()
        for _ in range(2):
            run(["sync", "-f", str(self.scratch)], timeout_s=120)  # what the arm before wrote is no part of the measurement
            try:
                _bedplate("measure", str(self.scratch), "--size", "512M", "--seconds", "3")
                self._disk = "disk measured by bedplate measure"
                return
            except ArmError as error:
                self._disk = f"disk not measured: {error.message}"

    def leave(self, arm: str) -> None:
        self._entered = ""
        if arm.startswith("tuned "):
            run(["tuned-adm", "off"], timeout_s=120, ok=(0, 1))
            run(["systemctl", "stop", "tuned.service"], timeout_s=120)
        elif arm in (NICE, BEDPLATE):
            try:
                if arm == BEDPLATE:
                    _bedplate("tune", "undo")
            finally:
                self.stop_engine()
                _DROP_IN.unlink(missing_ok=True)
                run(["systemctl", "daemon-reload"], timeout_s=120)

    def start_engine(self, arm: str, victim: Victim) -> None:
        mapped = victim.is_mapped
        model = self.mapped_file if mapped else "/models/model.gguf"
        extra = "--no-repack" if mapped else ""  # repacked weights would be a copy in the engine's own memory
        _DEFAULTS.write_text(f"LLAMA_MODEL={model}\nLLAMA_THREADS=2\nLLAMA_EXTRA={extra}\n")
        run(["systemctl", "reset-failed", UNIT], timeout_s=60, ok=(0, 1))
        run(["systemctl", "stop", UNIT], timeout_s=120)
        _swap(on=victim is Victim.SWAP)
        if mapped:
            evict(self.mapped_file)  # pages stay charged to the group that touched them first, in another arm
        run(["systemctl", "start", UNIT], timeout_s=120)
        wait_healthy(self.port, timeout_s=180)
        if arm == BEDPLATE:  # its limits are computed from the engine that runs
            _bedplate("tune", "apply")
            time.sleep(_SETTLE_S)
        self._check_engine(arm)

    def _check_engine(self, arm: str) -> None:
        """The engine is what the arm makes of it."""
        pids = self.engine_pids()
        if not pids:
            raise ArmError("nothing listens on the engine's port")
        stat = Path(f"/proc/{pids[0]}/stat").read_text().rpartition(")")[2].split()
        nice, group = int(stat[16]), Path(f"/proc/{pids[0]}/cgroup").read_text().strip()
        if arm == NICE and nice != -10:
            raise ArmError(f"the engine's nice value is {nice}, expected -10")
        if arm == BEDPLATE and "/inference.slice/" not in group:
            raise ArmError(f"the engine is in {group}, expected inference.slice")
        if arm != BEDPLATE and "/system.slice/" not in group:
            raise ArmError(f"the engine is in {group}, expected system.slice")

    def stop_engine(self) -> None:
        run(["systemctl", "stop", UNIT], timeout_s=120)

    def engine_pids(self) -> tuple[int, ...]:
        return find_listeners(Root(), self.port)

    def scale(self) -> Scale:
        """So that the rows of memory, at their 90 %, leave half of the mapped model's size: more than is free is touched."""
        real = read_scale()
        leave = self.mapped_file.stat().st_size // 2
        return replace(real, available_bytes=min(real.memory_bytes, (real.available_bytes - leave) * 100 // 90))

    def neighbour(self, arm: str, row: Row) -> CgroupTarget:
        return CgroupTarget(slice=row.slice or ("neighbour.slice" if arm == BEDPLATE else "system.slice"))

    def loader(self, arm: str, argv: tuple[str, ...]) -> tuple[str, ...]:
        where = "inference.slice" if arm == BEDPLATE else "system.slice"
        nice = ("nice", "-n", "-10") if arm == NICE else ()
        return ("systemd-run", "--scope", "--quiet", "--collect", f"--slice={where}", "--", *nice, *argv)

    def foreign(self, begin_s: float, end_s: float) -> float:
        try:
            lines = (SHARE / FOREIGN).read_text().splitlines()[-400:]
        except OSError:
            return 0.0
        shares: list[float] = []
        for line in lines:
            try:
                at_s, share = json.loads(line)
            except ValueError:
                continue  # a line that is being written
            if begin_s <= at_s <= end_s + 0.5:
                shares.append(share)
        return sum(shares) / len(shares) if shares else 0.0

    def close(self) -> None:
        if self._entered:
            try:
                self.leave(self._entered)
            except BedplateError as error:
                print(f"while taking back {self._entered}: {error.message}", file=sys.stderr)
        _swap(on=False)


def _swap(*, on: bool) -> None:
    """Swap of half a GiB on the disk that engine and neighbours use, or none."""
    is_on = str(_SWAP) in Path("/proc/swaps").read_text()
    if on and not _SWAP.exists():
        run(["fallocate", "-l", str(_SWAP_BYTES), str(_SWAP)], timeout_s=120)
        _SWAP.chmod(0o600)
        run(["mkswap", str(_SWAP)], timeout_s=120)
    if on != is_on:
        run(["swapon" if on else "swapoff", str(_SWAP)], timeout_s=300)


def _bedplate(*words: str) -> None:
    try:
        run(["bedplate", *words], timeout_s=600)
    except CommandError as error:
        said = [line for line in error.tail.splitlines() if not line.startswith("hint:")]
        raise ArmError(f"bedplate {' '.join(words[:2])}: {' '.join(said[-5:]) if said else error.message}") from error


def _write_drop_in(line: str) -> None:
    _DROP_IN.parent.mkdir(parents=True, exist_ok=True)
    _DROP_IN.write_text(f"[Service]\n{line}\n")
    run(["systemctl", "daemon-reload"], timeout_s=120)


def _sysctls() -> dict[str, str]:
    found = {}
    for name in _SYSCTLS:
        path = Path("/proc/sys") / name.replace(".", "/")
        found[name] = " ".join(path.read_text().split()) if path.exists() else "?"
    for path in sorted(Path("/sys/block").glob("vd*/queue/read_ahead_kb")):
        found[f"{path.parts[3]} read_ahead_kb"] = path.read_text().strip()
    return found


def _controllers() -> str:
    """On which the groups of services are told apart; an arm must not leave any of them on for the next one unsaid."""
    return " ".join((_CGROUP / "system.slice/cgroup.subtree_control").read_text().split()) or "none"


def _slices() -> list[str]:
    """What the slices got: "neighbour.slice cpu.weight 1"."""
    found = []
    for name in ("inference.slice", "init.scope", "system.slice", "user.slice", "neighbour.slice"):
        for file in _SLICE_FILES:
            path = _CGROUP / name / file
            if path.exists():
                value = re.sub(r"^default ", "", path.read_text().splitlines()[0] if path.read_text() else "")
                found.append(f"{name} {file} {value}")
    return found
