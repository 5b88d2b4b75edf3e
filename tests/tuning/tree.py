"""A small machine below a directory, with a service manager that writes its control groups as systemd does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bedplate.model.knob import Grade
from bedplate.model.knob_value import Compare, Parse
from bedplate.model.tuning import UNIT_PROPERTIES, Change, Means, Plan, Policy, Setting

FILES = {
    "proc/sys/vm/swappiness": "60",
    "proc/sys/vm/dirty_bytes": "0",
    "proc/sys/vm/dirty_ratio": "20",
    "proc/sys/kernel/random/boot_id": "0d1a",
    "proc/irq/24/smp_affinity_list": "0-1",
    "proc/cmdline": "quiet",
    "proc/meminfo": "MemTotal:       16000000 kB\nMemFree:        12000000 kB\nMemAvailable:   14000000 kB",
    "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never",
    "sys/block/vda/queue/read_ahead_kb": "128",
    "sys/fs/cgroup/cgroup.controllers": "cpu memory",
    "sys/fs/cgroup/neighbour.slice/cpu.weight": "100",
    "sys/fs/cgroup/neighbour.slice/cpu.idle": "0",
    "sys/fs/cgroup/neighbour.slice/memory.high": "max",
    "sys/fs/cgroup/system.slice/cpu.weight": "100",
    "usr/lib/systemd/system/neighbour.slice": "[Slice]",
}
THP = "/sys/kernel/mm/transparent_hugepage/enabled"


def make_machine(top: Path) -> Path:
    for name, text in FILES.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    for name in ("run/systemd/system", "etc/systemd/system", "etc/sysctl.d", "etc/tmpfiles.d", "var/lib"):
        (top / name).mkdir(parents=True)
    return top


def snapshot(top: Path) -> dict[str, str | None]:
    """Every file and directory but the log of what was done."""
    found = {}
    for path in sorted(top.rglob("*")):
        name = str(path.relative_to(top))
        if not name.startswith(("run/bedplate", "var/lib/bedplate")):
            found[name] = path.read_text() if path.is_file() else None
    return found


class FakeServices:
    """Writes what drop-ins say into the control groups of the tree at each reload; neutral values where none says any."""

    def __init__(self, top: Path, *, deaf: bool = False) -> None:
        self.top, self.deaf, self.reloads = top, deaf, 0

    def is_running(self) -> bool:
        return (self.top / "run/systemd/system").is_dir()

    def reload(self, units: Sequence[str] = ()) -> None:
        self.reloads += 1
        if self.deaf:
            return
        for group in (self.top / "sys/fs/cgroup").glob("*.slice"):
            said: dict[str, str] = {}
            for base in ("etc", "run"):
                for dropin in sorted((self.top / base / "systemd/system").glob(f"{group.name}.d/*.conf")):
                    said |= dict(line.split("=", 1) for line in dropin.read_text().splitlines() if "=" in line)
            for key in ("CPUWeight", "MemoryHigh"):
                value = said.get(key, UNIT_PROPERTIES[key].neutral)
                if key == "CPUWeight" and (group / "cpu.idle").exists():
                    (group / "cpu.idle").write_text("1\n" if value == "idle" else "0\n")
                path = group / UNIT_PROPERTIES[key].file
                if path.exists() and value != "idle":
                    path.write_text(value + "\n")

    def show(self, units: Sequence[str], properties: Sequence[str]) -> dict[str, dict[str, str]]:
        groups = self.top / "sys/fs/cgroup"
        return {
            unit: {"ActiveState": "active", "ControlGroup": f"/{unit}"}
            if (groups / unit).is_dir()
            else {"ActiveState": "inactive", "ControlGroup": ""}
            for unit in units
        }


def change(setting: str, old: str | None, new: str, parse: Parse = Parse.NUMBER) -> Change:
    if setting.startswith("/"):
        means, name, key = Means.FILE, setting, ""
    elif setting.startswith("cmdline:"):
        means, name, key = Means.CMDLINE, setting.removeprefix("cmdline:"), ""
    else:
        means = Means.UNIT
        name, _, key = setting.partition(":")
    return Change(
        setting=Setting(means=means, name=name, key=key),
        knob="k",
        old=old,
        new=new,
        parse=parse,
        compare=Compare.EQUAL,
        because="a test",
        grade=Grade.A,
        sources=(),
    )


def make_plan(*changes: Change, policy: Policy = Policy.SHARED_HOST) -> Plan:
    return Plan(policy=policy, changes=changes, skips=(), refusals=(), host="a tree")


FULL = make_plan(
    change("neighbour.slice:CPUWeight", "100", "1"),
    change("neighbour.slice:MemoryHigh", "max", "1073741824", Parse.BYTES),
    change("inference.slice:CPUWeight", None, "10000"),
    change("/proc/sys/vm/swappiness", "60", "10"),
    change("/sys/block/vda/queue/read_ahead_kb", "128", "4096"),
    change(THP, "madvise", "always", Parse.CHOICE),
)
