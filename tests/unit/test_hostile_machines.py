"""Whole machines with garbage in their files: facts come out, a reader that cannot becomes a Problem, nothing is raised."""

from __future__ import annotations

import os
import random
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from tests.effort import at_most
from tests.unit.knob_cases import audit_knobs

from bedplate.catalog.findings import read_findings
from bedplate.catalog.knobs import knob_configs, knob_paths, read_knobs
from bedplate.catalog.stack import read_stack
from bedplate.host.facts import read_host
from bedplate.host.record.record import record_host, render_archive
from bedplate.host.root.recording import MemoryTree, open_recording
from bedplate.host.root.root import Root
from bedplate.host.stack.installed import StackDepth
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.reading import Unknown
from bedplate.plan.audit_stack import audit_stack

MACHINES = Path(__file__).parents[1] / "machines"
KNOBS, FINDINGS, CATALOGUE = read_knobs(), read_findings(), read_stack(drop_ins=None)
PATHS, OPTIONS = knob_paths(KNOBS), knob_configs(KNOBS)

GARBAGE = (
    *(
        b"",
        b"\n",
        b"\0",
        b"-1\n",
        b"0\n",
        b"\xff\xfe\x00\x01",
        b"9" * 400 + b"\n",
        b"-9999999999999999999999\n",
        b"0x\n",
        b"max\n",
    ),
    *(
        b"0-4000000000\n",
        b"5-1\n",
        b",,,\n",
        b"a:b:c\n",
        b"[]\n",
        b"[x\n",
        b"{}",
        b'{"format": 1, "devices": [7]}',
        b"1e999\n",
        b"nan\n",
    ),
    *(
        b" " * 5000,
        b"0-8191\n" * 50,
        b"N0=1 kernelpagesize_kB=4\n" * 9,
        "٣\n".encode(),
        b"some avg60=x\n",
        b"processor\t: x\nflags\t:\n",
    ),
)


def load(path: Path) -> MemoryTree:
    """A directory as a tree in memory, to be changed file by file."""
    tree = MemoryTree(path=path, absent=Unknown.NOT_RECORDED, children={"/": set()})
    for file in sorted(path.rglob("*")):
        where = "/" + file.relative_to(path).as_posix()
        tree.children.setdefault(where.rpartition("/")[0] or "/", set()).add(file.name)
        if file.is_symlink():
            tree.links[where] = str(file.readlink())
        elif file.is_dir():
            tree.children.setdefault(where, set())
        else:
            tree.files[where] = file.read_bytes()
    return tree


def spoil(tree: MemoryTree, seed: int) -> MemoryTree:
    """Some files cut, changed or replaced, some links turned elsewhere; the same for the same seed."""
    dice = random.Random(seed)
    files, links = dict(tree.files), dict(tree.links)
    for where in dice.sample(sorted(files), k=max(1, len(files) // dice.choice((3, 20, 100)))):
        data = bytearray(files[where])
        how = dice.randrange(4)
        if how == 0 or not data:
            files[where] = dice.choice(GARBAGE)
        elif how == 1:
            files[where] = bytes(data[: dice.randrange(len(data))])
        elif how == 2:
            data[dice.randrange(len(data))] = dice.randrange(256)
            files[where] = bytes(data)
        else:
            files[where] = bytes(data) + dice.choice(GARBAGE)
    for where in dice.sample(sorted(links), k=len(links) // 10):
        links[where] = dice.choice(("/", "..", where, "../../../..", "/proc/self", "x" * 300, where + "/x"))
    return replace(tree, files=files, links=links)


def read(root: Root) -> None:
    facts = read_host(root, PATHS, origin="hostile", config_options=OPTIONS, stack=StackDepth.DEEP)
    assert all(problem.message for problem in facts.problems)
    audit_stack(facts, FINDINGS, CATALOGUE, None, (), today="2026-11-30")


def read_again(recording: Path) -> HostFacts:
    return read_host(open_recording(recording), PATHS, origin="live", config_options=OPTIONS, stack=StackDepth.DEEP)


@pytest.mark.parametrize("machine", ["ubuntu-vllm", "pod-cgroup1"])
def test_a_spoilt_machine_is_read(machine: str) -> None:
    tree = load(MACHINES / machine)
    for seed in range(150):
        read(spoil(tree, seed))


@pytest.mark.parametrize("garbage", range(len(GARBAGE)))
def test_the_same_garbage_in_every_file(garbage: int) -> None:
    tree = load(MACHINES / "ubuntu-vllm")
    with at_most(cpu_s=20):
        read(replace(tree, files=dict.fromkeys(tree.files, GARBAGE[garbage])))


def test_a_spoilt_machine_is_recorded_and_read_again(tmp_path: Path) -> None:
    tree = load(MACHINES / "ubuntu-vllm")
    for seed in range(10):
        recorded = record_host(spoil(tree, seed), PATHS, config_options=OPTIONS, bedplate="", recorded="")
        path = tmp_path / "host.tar.gz"
        path.write_bytes(render_archive(recorded, ".tar.gz"))
        again = read_again(path)
        assert again.problems == recorded.facts.problems


@pytest.mark.parametrize("number", ["²", "٣", "9" * 400, "9" * 5000, "1_000", "-1", "1.5", ""])
def test_a_number_of_other_digits_or_too_many_is_malformed(number: str) -> None:
    """isdigit() of Python is true for "²", and int() of 5,000 digits raises."""
    tree = load(MACHINES / "ubuntu-vllm")
    meminfo = f"MemTotal: {number} kB\nMemAvailable: {number} kB\n".encode()
    facts = read_host(replace(tree, files=tree.files | {"/proc/meminfo": meminfo}), PATHS, origin="hostile")
    assert [problem.source for problem in facts.problems] == ["memory"], facts.problems
    assert "malformed" in facts.problems[0].message


@pytest.mark.parametrize("number", ["²", "9" * 5000])
def test_such_numbers_in_names_and_counters(number: str) -> None:
    tree = load(MACHINES / "ubuntu-vllm")
    files = {
        "/proc/sys/vm/dirty_bytes": number,
        "/proc/net/netstat": f"TcpExt: ListenOverflows\nTcpExt: {number}\n",
        "/proc/vmstat": f"compact_stall {number}\nallocstall_normal {number}\nnuma_hint_faults {number}\n",
        "/etc/passwd": f"a:x:{number}:1::/home/abc:/bin/sh\n",
        "/boot/loader/entries/a.conf": f"version {number}.1-{number}\n",
        "/sys/fs/cgroup/cpu.max": f"{number} {number}\n",
    }
    names = {"/proc": {number}, "/proc/4711/task": {number}, "/boot": {f"vmlinuz-{number}.1"}, "/sys/class/net": {number}}
    children = {where: inside | names.get(where, set()) for where, inside in tree.children.items()}
    root = replace(
        tree, files=tree.files | {where: text.encode() for where, text in files.items()}, children=children | names
    )
    facts = read_host(root, PATHS, origin="hostile", config_options=OPTIONS)
    audit_knobs(facts, KNOBS)
    record_host(root, PATHS, config_options=OPTIONS, bedplate="", recorded="")


DATA = Path(os.environ.get("BEDPLATE_DATA") or Path(__file__).parents[3] / "shared/data") / "machines"


def recordings() -> list[Path]:
    return sorted([*DATA.glob("hwloc/*.tar.bz2"), *DATA.glob("procfs/*.gz")])


@pytest.mark.data
def test_recorded_servers_are_read_spoilt_or_not_and_recorded_again(tmp_path: Path) -> None:
    if not recordings():
        pytest.skip(f"no recorded machines in {DATA}")
    for number, path in enumerate(recordings()):
        root = open_recording(path)
        assert isinstance(root, MemoryTree)
        read(root)
        recorded = record_host(root, PATHS, config_options=OPTIONS, bedplate="", recorded="")
        (tmp_path / "host.tar.zst").write_bytes(packed := render_archive(recorded, ".tar.zst"))
        assert len(packed) < 100_000
        again = read_again(tmp_path / "host.tar.zst")
        assert replace(again, mounts=(), kernel=recorded.facts.kernel) == replace(recorded.facts, mounts=())
        for seed in range(3):
            read(spoil(root, 1000 * number + seed))


@pytest.mark.data
def test_archives_hold_what_tarfile_reads_of_them() -> None:
    if not recordings():
        pytest.skip(f"no recorded machines in {DATA}")
    for path in DATA.glob("hwloc/*.tar.bz2"):
        root = open_recording(path)
        with tarfile.open(path) as archive:
            for member in archive:
                where = "/" + member.name.partition("/")[2]
                if member.isfile():
                    data = archive.extractfile(member)
                    assert data is not None and root.read_bytes(where).value == data.read(), member.name
                elif member.issym():
                    assert root.readlink(where) == member.linkname


@pytest.mark.data
def test_the_fixtures_of_procfs() -> None:
    path = DATA / "procfs/fixtures.ttar.gz"
    if not path.exists():
        pytest.skip(f"no recorded machines in {DATA}")
    root = open_recording(path)
    assert root.read_bytes("/proc/26231/cmdline").value == b"vim\0test.go\0+10\0"
    assert root.readlink("/proc/26231/exe") == "/usr/bin/vim"
    facts = read_host(root, PATHS, origin="procfs", config_options=OPTIONS)
    assert facts.memory.total_bytes == 15666184 * 1024
    assert [(pressure.resource, pressure.some_avg60) for pressure in facts.pressure] == [
        ("cpu", 2.0),
        ("memory", 2.0),
        ("io", 2.0),
    ]
    assert next(
        (name, value.split(",")[0].split(";")[0]) for name, value in facts.kernel.vulnerabilities if name == "spectre_v2"
    ) == ("spectre_v2", "Mitigation: Retpolines")
