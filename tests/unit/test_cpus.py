"""CPUs and memory that a host really has, from recorded hosts."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedplate.errors import ReadError
from bedplate.host.kernel.cpus import read_cpus
from bedplate.host.kernel.memory import parse_meminfo, read_memory
from bedplate.host.root.cpu_lists import parse_cpu_list, parse_cpu_mask
from bedplate.host.root.root import Root

MACHINES = Path(__file__).parents[1] / "machines"
CGROUP2 = Root(MACHINES / "serving-cgroup2")
CONTAINER = Root(MACHINES / "serving-cgroup1-container")


@pytest.mark.parametrize(
    ("text", "cpus"),
    [("0", (0,)), ("0-2,8", (0, 1, 2, 8)), ("", ()), ("\n", ()), ("3,1", (1, 3)), ("0-0", (0,)), (" 1 , 2-3\n", (1, 2, 3))],
)
def test_a_cpu_list_is_read(text: str, cpus: tuple[int, ...]) -> None:
    assert parse_cpu_list(text) == cpus


def test_what_is_no_cpu_list_is_named() -> None:
    with pytest.raises(ReadError, match="'0-x'"):
        parse_cpu_list("0-x")


@pytest.mark.parametrize("text", ["0-4000000000", "70000", "9" * 5000])
def test_an_absurd_cpu_list_is_refused_before_it_takes_memory(text: str) -> None:
    with pytest.raises(ReadError):
        parse_cpu_list(text)


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("00000001,0000000f", (0, 1, 2, 3, 32)),
        ("f", (0, 1, 2, 3)),
        ("0", ()),
        ("0x00000001,,0x80000000", (31, 64)),
        ("ffff0000\n", tuple(range(16, 32))),
        ("1000000000000", (48,)),
    ],
)
def test_a_cpu_mask_is_read(text: str, cpus: tuple[int, ...]) -> None:
    assert parse_cpu_mask(text) == cpus


@pytest.mark.parametrize("text", ["x", "1,000000000", "-1", "1 2", "0," * 3000, "f" * 20_000])
def test_what_is_no_cpu_mask_is_refused(text: str) -> None:
    with pytest.raises(ReadError):
        parse_cpu_mask(text)


def machine(top: Path, files: dict[str, str]) -> Root:
    for name, text in {"sys/devices/system/cpu/online": "0-7", **files}.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(text)
    return Root(top)


@pytest.mark.parametrize(
    ("text", "quota"), [("max 100000", None), ("150000 100000", 1.5), (None, None), ("50000", 0.5), ("max", None)]
)
def test_cpu_max(text: str | None, quota: float | None, tmp_path: Path) -> None:
    files = {} if text is None else {"sys/fs/cgroup/a.slice/cpu.max": text}
    assert (
        read_cpus(machine(tmp_path, {"sys/fs/cgroup/cgroup.controllers": "cpu", **files}), cgroup="a.slice").quota == quota
    )


@pytest.mark.parametrize(("pair", "quota"), [(("-1", "100000"), None), (("50000", "100000"), 0.5), ((None, None), None)])
def test_cfs_quota(pair: tuple[str | None, str | None], quota: float | None, tmp_path: Path) -> None:
    names = ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "sys/fs/cgroup/cpu/cpu.cfs_period_us")
    files = {name: text for name, text in zip(names, pair, strict=True) if text is not None}
    assert read_cpus(machine(tmp_path, {"sys/fs/cgroup/cpu/tasks": "", **files}), cgroup="a.slice").quota == quota


def test_a_quota_that_is_none_is_an_error(tmp_path: Path) -> None:
    files = {"sys/fs/cgroup/cgroup.controllers": "cpu", "sys/fs/cgroup/a.slice/cpu.max": "many"}
    with pytest.raises(ReadError, match=r"a\.slice/cpu\.max: 'many' is not"):
        read_cpus(machine(tmp_path, files), cgroup="a.slice")


def test_a_group_outside_of_the_namespace_is_not_taken_for_one_inside(tmp_path: Path) -> None:
    """ "/../a.slice" was read as "/a.slice", a group of somebody else."""
    files = {"sys/fs/cgroup/cgroup.controllers": "cpu", "sys/fs/cgroup/a.slice/cpu.max": "50000 100000"}
    assert read_cpus(machine(tmp_path, {**files, "proc/self/cgroup": "0::/../a.slice"})).quota is None


def test_a_mount_that_shows_a_part_of_the_hierarchy_is_read_from_there(tmp_path: Path) -> None:
    """As in a container without a cgroup namespace: the path of the host is cut by the root of the mount."""
    mount = "30 1 0:26 /docker/ab /sys/fs/cgroup ro - cgroup2 cgroup2 rw"
    files = {"proc/self/mountinfo": mount, "proc/self/cgroup": "0::/docker/ab/inner"}
    root = machine(tmp_path, {**files, "sys/fs/cgroup/inner/cpu.max": "50000 100000"})
    assert read_cpus(root).quota == 0.5


@pytest.mark.parametrize(
    ("root", "cgroup", "affinity", "cpus", "quota"),
    [
        (CGROUP2, "inference.slice", None, (0, 1, 2, 3, 4, 5), 6.0),
        # The narrowest quota of the chain, and the parent's cpuset where a child has none.
        (CGROUP2, "inference.slice/small.service", None, (0, 1, 2, 3, 4, 5), 2.5),
        # A cgroup that is yet to be made has what its parent has.
        (CGROUP2, "inference.slice/bedplate-engine@x.service", None, (0, 1, 2, 3, 4, 5), 6.0),
        (CGROUP2, "other.slice", None, tuple(range(8)), None),
        # Without a name, the cgroup of /proc/self/cgroup.
        (CGROUP2, None, {1, 2, 7}, (1, 2), 6.0),
        # cgroup v1 in a container: /proc/self/cgroup names a path of the host that is not there.
        (CONTAINER, None, None, (8, 9, 10, 11), 1.5),
        (CONTAINER, None, {9, 10, 60}, (9, 10), 1.5),
    ],
)
def test_cpus_of_recorded_hosts(
    root: Root, cgroup: str | None, affinity: set[int] | None, cpus: tuple[int, ...], quota: float | None
) -> None:
    facts = read_cpus(root, cgroup=cgroup, affinity=affinity)
    assert (facts.cpus, facts.quota) == (cpus, quota)


def test_the_reason_names_each_bound() -> None:
    assert read_cpus(CONTAINER, affinity={9, 10}).because == (
        "64 online, 4 in the cpuset, 2 in the affinity, a quota of 1.5"
    )


def test_no_cpu_left_is_an_error_and_not_an_empty_answer() -> None:
    with pytest.raises(ReadError, match="no CPU is left"):
        read_cpus(CGROUP2, cgroup="inference.slice", affinity={7})


def test_memory_of_recorded_hosts() -> None:
    facts = read_memory(CGROUP2)
    assert (facts.total_bytes, facts.available_bytes, facts.engines_bytes) == (2014312 * 1024, 1800000 * 1024, 104857600)
    assert read_memory(CONTAINER).engines_bytes == 0
    assert parse_meminfo("HugePages_Total:       4\nMemTotal: 2 kB") == {"HugePages_Total": 4, "MemTotal": 2048}


def test_a_host_without_meminfo_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="meminfo"):
        read_memory(Root(tmp_path))


def test_root_tells_nothing_from_empty(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    root = Root(tmp_path)
    assert (root.read_text("/empty"), root.read_text("/nothing"), root.read_text("/empty/below")) == ("", None, None)
    assert (root.listdir("/"), root.listdir("/nothing")) == (("empty",), ())
    with pytest.raises(ReadError, match="cannot read"):
        root.read_text("/")
