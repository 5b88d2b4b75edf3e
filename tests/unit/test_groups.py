"""Control groups of made trees: what is read, how deep, and what stands for what is not there."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.tree import Link, make_root

from bedplate.act.tuning.kinds.unit_property import read_property as check_reads
from bedplate.host.kernel.groups import read_groups, slice_path
from bedplate.model.facts.reading import Unknown
from bedplate.plan.tune.builder import read_property as plan_reads

CGROUP = "/sys/fs/cgroup"
UNIFIED = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot"
HYBRID = (
    "30 24 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
    "31 24 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "32 24 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
)
DEBIAN: dict[str, str | bytes | Link] = {
    "/proc/self/mountinfo": UNIFIED,
    "/proc/1/comm": "systemd",
    "/usr/lib/systemd/libsystemd-shared-257.so": b"",
    "/usr/lib/systemd/libsystemd-core-257.so": b"",
    f"{CGROUP}/cgroup.controllers": "cpuset cpu io memory pids",
    f"{CGROUP}/cgroup.procs": "",
    f"{CGROUP}/cpuset.cpus.effective": "0-3",
    f"{CGROUP}/io.cost.qos": "259:0 enable=0 ctrl=auto",
    f"{CGROUP}/system.slice/cpu.weight": "100",
    f"{CGROUP}/system.slice/vllm.service/memory.current": "8589934592",
    f"{CGROUP}/system.slice/vllm.service/payload/cpu.weight": "100",
    f"{CGROUP}/user.slice/user-0.slice/session-1.scope/cpu.weight": "100",
    f"{CGROUP}/a.slice/a-b.slice/a-b-c.slice/a-b-c-d.slice/x.service/cpu.weight": "100",
    f"{CGROUP}/a.slice/a-b.slice/a-b-c.slice/y.service/cpu.weight": "5",
    f"{CGROUP}/kubepods/cpu.weight": "100",
}


def test_slices_to_three_levels_and_their_units_are_read(tmp_path: Path) -> None:
    groups = read_groups(make_root(tmp_path, DEBIAN))
    assert (groups.version, groups.mount, groups.systemd) == (2, CGROUP, 257)
    assert groups.controllers == ("cpuset", "cpu", "io", "memory", "pids")
    assert [group.path for group in groups.groups] == [
        "/",
        "/a.slice",
        "/a.slice/a-b.slice",
        "/a.slice/a-b.slice/a-b-c.slice",
        "/a.slice/a-b.slice/a-b-c.slice/y.service",
        "/system.slice",
        "/system.slice/vllm.service",
        "/user.slice",
        "/user.slice/user-0.slice",
        "/user.slice/user-0.slice/session-1.scope",
    ]
    engine = groups.find("/system.slice/vllm.service")
    assert engine is not None
    assert engine.unit == "vllm.service"
    assert engine.read("memory.current").value == "8589934592"
    assert engine.read("cpu.weight").unknown is Unknown.ABSENT  # its controller is not enabled here
    assert engine.read("cgroup.freeze").unknown is Unknown.NOT_RECORDED
    root = groups.find("/")
    assert root is not None
    assert root.read("io.cost.qos").value == "259:0 enable=0 ctrl=auto"


def test_a_hybrid_machine_has_its_controllers_on_version_1(tmp_path: Path) -> None:
    groups = read_groups(make_root(tmp_path, {"/proc/self/mountinfo": HYBRID, "/proc/1/comm": "systemd"}))
    assert (groups.version, groups.mount, groups.groups) == (1, "/sys/fs/cgroup/unified", ())


def test_a_machine_without_control_groups_or_systemd(tmp_path: Path) -> None:
    groups = read_groups(make_root(tmp_path, {"/proc/1/comm": "init", "/usr/lib/systemd/libsystemd-shared-257.so": b""}))
    assert (groups.version, groups.mount, groups.controllers, groups.systemd) == (0, "", (), None)


def test_the_number_of_groups_is_bounded(tmp_path: Path) -> None:
    many = {f"{CGROUP}/system.slice/u{number}.service/cpu.weight": "100" for number in range(600)}
    groups = read_groups(make_root(tmp_path, {"/proc/self/mountinfo": UNIFIED, **many}))
    assert len(groups.groups) == 512


def test_the_version_is_the_newest_library_with_what_packages_add(tmp_path: Path) -> None:
    names = ("libsystemd-shared-252.so", "libsystemd-shared-257.9-1~deb13u1.so", "libsystemd-shared.so")
    files = {f"/usr/lib/x86_64-linux-gnu/systemd/{name}": b"" for name in names}
    groups = read_groups(make_root(tmp_path, {"/proc/1/comm": "systemd", **files}))
    assert groups.systemd == 257


STARTING = {
    f"{CGROUP}/inference.slice/cpu.weight": "400",
    "/usr/lib/systemd/system/inference.slice": "[Slice]\nCPUWeight=10000\n# Until the boot is over.\nStartupCPUWeight=400\n",
}


@pytest.mark.parametrize(
    ("files", "weight"),
    [
        (STARTING, "10000"),  # what counts until the boot is over is not what a plan finds or goes back to
        (STARTING | {f"{CGROUP}/inference.slice/cpu.weight": "10000"}, "10000"),
        (STARTING | {f"{CGROUP}/inference.slice/cpu.weight": "300"}, "300"),
        (STARTING | {"/run/systemd/system.control/inference.slice.d/50-w.conf": "[Slice]\nCPUWeight=200\n"}, "200"),
        (STARTING | {"/etc/systemd/system/inference.slice.d/a.conf": "[Slice]\nStartupCPUWeight=\n"}, "400"),
        (STARTING | {"/etc/systemd/system/inference.slice": "[Slice]\nCPUWeight=500\nStartupCPUWeight=400\n"}, "500"),
        (STARTING | {"/usr/lib/systemd/system/inference.slice": "[Slice]\nStartupCPUWeight=400\n"}, "100"),
        (STARTING | {"/usr/lib/systemd/system/inference.slice": "[Slice]\nCPUWeight=idle\nStartupCPUWeight=400\n"}, "400"),
    ],
)
def test_a_weight_that_counts_while_the_machine_starts_is_told_from_the_property(
    tmp_path: Path, files: dict[str, str | bytes | Link], weight: str
) -> None:
    group = read_groups(make_root(tmp_path, DEBIAN | files)).find("/inference.slice")
    assert group is not None
    assert group.read("cpu.weight").value == weight


@pytest.mark.parametrize(
    ("unit", "path"),
    [
        ("neighbour.slice", "/neighbour.slice"),
        ("a-b-c.slice", "/a.slice/a-b.slice/a-b-c.slice"),
        ("user-1000.slice", "/user.slice/user-1000.slice"),
        ("a\\x2db.slice", "/a\\x2db.slice"),
        ("-.slice", ""),
    ],
)
def test_a_slice_lies_in_those_of_its_name(unit: str, path: str) -> None:
    assert slice_path(unit) == path


@pytest.mark.parametrize(
    ("key", "files", "value"),
    [
        ("CPUWeight", {"cpu.weight": "200"}, "200"),
        ("CPUWeight", {"cpu.weight": "1", "cpu.idle": "1"}, "idle"),
        ("MemoryHigh", {"memory.high": "max"}, "infinity"),
        ("IOWeight", {"io.weight": "default 50\n259:0 900"}, "50"),
        ("IOWeight", {"io.weight": "259:0 900"}, None),
        ("IOWeight", {"io.weight": "default \u00b2"}, None),
        ("MemoryLow", {}, None),
        ("OOMScoreAdjust", {}, None),
    ],
)
def test_a_plan_and_its_check_read_a_property_alike(
    key: str, files: dict[str, str], value: str | None, tmp_path: Path
) -> None:
    """The check took the line of one device for the weight of all of them."""
    made = {f"{CGROUP}/system.slice/{name}": text for name, text in files.items()}
    root = make_root(tmp_path, {**DEBIAN, **made})
    assert plan_reads(read_groups(root), "/system.slice", key) == value
    assert check_reads(root, f"{CGROUP}/system.slice", key) == value
