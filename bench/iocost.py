"""What dividing a disk by cost is worth to a model that is loaded from it, and what it takes: `python -m bench.iocost`.

In a Debian 13 guest, on a disk that QEMU limits to 120 MB/s and 1000 operations a second and on one without limits: a cold
load with nothing beside it, beside deep random reads and beside a flood of dirty pages; with io.cost off, as planned, and as
planned with other bounds of the rate at which the kernel issues I/O. The loader is in inference.slice, the neighbour in
neighbour.slice, 10000:100. Settings in turn, there and back; prints ratios to the quiet load with io.cost off on that disk.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

HERE = Path(__file__).parent
OFF, PLANNED, ALONE = "off", "as planned", "without writeback throttling"
BOUNDS = {PLANNED: None, ALONE: None, "50 to 100 %": (50, 100), "100 %, no latency target": (100, 100)}
BESIDE = {
    "nothing": "",
    "deep random reads": "--name=rr --filename=/scratch/rr --size=512M --rw=randread --bs=4k --iodepth=64 --numjobs=4"
    " --ioengine=libaio --direct=1",
    "dirty flood": "--name=dirty --filename=/scratch/out --size=400M --rw=write --bs=1M --ioengine=psync"
    " --direct=0 --end_fsync=0",
}
_LOAD_S, _WASH_S = 4, 4.0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.iocost", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=2, help="of all settings on each disk (2)")
    parser.add_argument("--json", action="store_true", help="print every sample")
    parser.add_argument("--inside", type=Path, metavar="FILE", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside is not None:
        _measure(arguments.inside, arguments.turns)
        return 0
    disks = {name: _boot_and_measure(limited, arguments.turns) for name, limited in (("limited", True), ("free", False))}
    print(json.dumps(disks, indent=1) if arguments.json else _render(disks))
    return 0


# -- in the guest -----------------------------------------------------------------------------------------------------------


def _measure(kept: Path, turns: int) -> None:
    from bedplate.host.root.root import Root
    from bedplate.host.system.device_speeds import read_device_speeds
    from bedplate.plan.tune.disks import plan_cost

    for name, weight in (("inference", 10000), ("neighbour", 100)):
        _run("systemctl", "start", f"{name}.slice")
        _run("systemctl", "set-property", "--runtime", f"{name}.slice", f"CPUWeight={weight}", f"IOWeight={weight}")
    _run("bedplate", "measure", "/scratch", "--size", "512M", "--seconds", "3")
    (speed,) = read_device_speeds(Root())
    model, qos = (change.new for change in plan_cost(speed, model="", qos="").changes)
    record: dict[str, object] = {"model": model, "qos": qos, "kernel": speed.kernel, "kept_pct": speed.kept_pct}
    samples: list[tuple[str, str, float]] = []
    _run("fio", "--name=fill", "--filename=/scratch/rr", "--size=512M", "--rw=write", "--bs=1M", "--direct=1")
    throttled = Path(f"/sys/dev/block/{qos.split()[0]}/queue/wbt_lat_usec").read_text()
    settings = [OFF, *BOUNDS]
    for turn in range(turns):
        for setting in settings if turn % 2 == 0 else reversed(settings):
            _set(setting, model, qos, throttled)
            for beside, options in BESIDE.items():
                samples.append((setting, beside, _load(options)))
                print(*samples[-1], flush=True)
            record["samples"] = samples
            kept.write_text(json.dumps(record))


def _set(setting: str, model: str, qos: str, throttled: str) -> None:
    from bedplate.act.tuning.kinds.keyed_kernel_file import write_line
    from bedplate.host.root.root import Root

    number = qos.split()[0]
    throttling = Path(f"/sys/dev/block/{number}/queue/wbt_lat_usec")
    throttling.write_text(throttled)  # after ALONE
    bounds = BOUNDS.get(setting)
    if setting == OFF:
        qos = f"{number} enable=0"
    elif bounds is not None:
        qos = re.sub(r"min=\S+ max=\S+", "min={}.00 max={}.00".format(*bounds), qos)
        if bounds[0] == bounds[1]:
            qos = re.sub(r"([rw])pct=\S+", r"\1pct=0.00", qos)
    write_line(Root(), "/sys/fs/cgroup/io.cost.model", model)
    write_line(Root(), "/sys/fs/cgroup/io.cost.qos", qos)  # as tune does: it keeps writeback throttling on
    wanted = "0" if setting == ALONE else throttled.strip()
    if setting == ALONE:
        throttling.write_text("0\n")
    if throttling.read_text().strip() != wanted:
        raise SystemExit(f"{throttling}: {throttling.read_text().strip()}, expected {wanted}")


def _load(options: str) -> float:
    """Bytes a second of a loader that starts when the neighbour has been at work for a while."""
    if options:
        fio = ("fio", *options.split(), "--time_based", "--runtime=90")
        _run("systemd-run", "--quiet", "--collect", "--unit=beside", "--slice=neighbour.slice", *fio)
        time.sleep(_WASH_S)
    argv = ("systemd-run", "--scope", "--quiet", "--collect", "--slice=inference.slice")
    said = _run(*argv, "python3", "/share/loader.py", "/scratch/load.gguf", str(_LOAD_S), given="\n")
    if options:
        _run("systemctl", "is-active", "beside.service")  # fails where the neighbour ended before
        _run("systemctl", "stop", "beside.service")
        _run("sync", "-f", "/scratch")
    done, seconds = said.split()[-2:]
    return int(done) / float(seconds)


def _run(*argv: str, given: str = "") -> str:
    done = subprocess.run(argv, input=given, capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(argv)}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


# -- on this host -----------------------------------------------------------------------------------------------------------


def _boot_and_measure(limited: bool, turns: int) -> dict[str, object]:
    from bedplate.act.paths import find_paths
    from bedplate.cli.terminal import terminal_progress
    from bench.inplace.guest import GuestOptions, make_data_disk, running_guest
    from bench.neighbours.guest import MEMORY_BYTES, SCRATCH_BYTES, SCRATCH_BYTES_PER_S, SCRATCH_OPERATIONS_PER_S
    from bench.neighbours.models import write_load_file

    paths = find_paths()
    (paths.cache / "bench").mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="iocost-", dir=paths.cache / "bench") as temporary,
        terminal_progress() as progress,
    ):
        directory = Path(temporary)
        (directory / "content").mkdir()
        write_load_file(directory / "content/load.gguf")
        make_data_disk(directory / "data.raw", directory / "content")
        options = GuestOptions(
            memory_bytes=MEMORY_BYTES,
            scratch_bytes=SCRATCH_BYTES,
            scratch_bytes_per_s=SCRATCH_BYTES_PER_S if limited else None,
            scratch_operations_per_s=SCRATCH_OPERATIONS_PER_S if limited else None,
            data=directory / "data.raw",
            serve=False,
        )
        with running_guest(paths, progress, directory=directory, options=options) as guest:
            shutil.copyfile(__file__, guest.share / "iocost.py")
            shutil.copyfile(HERE / "neighbours/loader.py", guest.share / "loader.py")
            guest.run("cp /data/load.gguf /scratch/ && sync", timeout_s=200)
            with progress.phase(f"measure, the disk {'limited' if limited else 'without limits'}"):
                command = f"python3 /share/iocost.py --inside /share/kept.json --turns {turns} >/share/log 2>&1"
                command = f"PYTHONPATH=/usr/local/lib/bedplate {command}"
                answer = guest.run(command, timeout_s=300 + 200 * turns, ok=False)
            if answer.status != 0:
                raise SystemExit((guest.share / "log").read_text())
            record: dict[str, object] = json.loads((guest.share / "kept.json").read_text())
            guest.power_off()
    return record


def _render(disks: dict[str, dict[str, object]]) -> str:
    lines = [f"| disk | io.cost | {' | '.join(BESIDE)} |", f"| --- | --- |{' --- |' * len(BESIDE)}"]
    for disk, record in disks.items():
        samples: list[list[object]] = record["samples"]  # type: ignore[assignment]
        rates: dict[tuple[object, object], list[float]] = {}
        for setting, beside, rate in samples:
            rates.setdefault((setting, beside), []).append(float(str(rate)))
        quiet = median(rates[OFF, "nothing"])
        for setting in (OFF, *BOUNDS):
            cells = [_cell([rate / quiet for rate in rates[setting, beside]]) for beside in BESIDE]
            lines.append(f"| {disk}, {quiet / 1e6:.0f} MB/s | {setting} | {' | '.join(cells)} |")
    for disk, record in disks.items():
        told = f"`bedplate measure` lets a load keep {record['kept_pct']} % under io.cost"
        lines += ["", f"{disk}: {told}; `{record['qos']}`, `{record['model']}`, kernel {record['kernel']}"]
    return "\n".join(lines)


def _cell(shares: list[float]) -> str:
    return f"{median(shares) * 100:.0f} % ({min(shares) * 100:.0f}–{max(shares) * 100:.0f})"


if __name__ == "__main__":
    sys.exit(main())
