"""An emulated machine loses no interrupt: QEMU emulates its memory barriers, or it runs on one CPU of this host."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bedplate.act.run import find_program
from bedplate.image.manifest import Image
from bedplate.image.one_cpu import on_one_cpu
from bedplate.image.qemu import MAGIC_EXIT, BootOptions, qemu_argv, takes_turns
from bedplate.image.recipe import Variant
from bedplate.model.machine import Accel, BootMode
from tests.effort import PATIENCE_S

# 16-bit code: lock inc word [0x7d00]; mfence; out 0xf4, MAGIC_EXIT; hlt
SECTOR = bytes.fromhex("f0ff06007d 0faef0 b02a e6f4 f4").ljust(510, b"\0") + b"\x55\xaa"
TRACE = ("-d", "op", "-D", "operations.log", "-dfilter", "0x7c00..0x7cff")

IMAGE = Image(
    version="1",
    variant=Variant.DEVELOPMENT,
    directory=Path(),
    raw=Path("os.raw"),
    uki=Path("os.efi"),
    kernel=Path("os.vmlinuz"),
    initrd=Path("os.initrd"),
    cmdline="",
    manifest=Path("manifest.json"),
)


def emulated(directory: Path, cpus: int) -> str:
    """QEMU's own operations for a locked instruction and a fence, with the accelerator and CPUs of a machine."""
    qemu = find_program("qemu-system-x86_64")
    if qemu is None:
        pytest.skip("qemu-system-x86_64 is not installed")
    options = BootOptions(mode=BootMode.DIRECT, accel=Accel.TCG, port=8080, cpus=cpus)
    argv = qemu_argv(qemu, IMAGE, options)
    chosen = [word for option in ("-accel", "-cpu", "-smp") for word in (option, argv[argv.index(option) + 1])]
    (directory / "sector.img").write_bytes(SECTOR.ljust(1024 * 1024, b"\0"))
    disk = ("-drive", "file=sector.img,format=raw,if=ide", "-device", "isa-debug-exit,iobase=0xf4,iosize=1")
    plain = ("-machine", "q35", "-m", "64", "-nodefaults", "-display", "none")
    done = subprocess.run([qemu, *chosen, *plain, *disk, *TRACE], cwd=directory, timeout=PATIENCE_S, check=False)
    assert done.returncode == MAGIC_EXIT << 1 | 1
    return (directory / "operations.log").read_text()


def test_the_barriers_of_a_machine_with_one_cpu_are_emulated(tmp_path: Path) -> None:
    operations = emulated(tmp_path, cpus=1)
    assert "atomic_add_fetch" in operations
    assert " mb " in operations


def test_several_cpus_on_one_thread_have_no_barriers_and_so_take_turns_on_one_cpu(tmp_path: Path) -> None:
    """Where this fails, QEMU has learnt it, and on_one_cpu can go."""
    assert "atomic_add_fetch" not in emulated(tmp_path, cpus=2)
    options = BootOptions(mode=BootMode.DIRECT, accel=Accel.TCG, port=8080, cpus=2)
    assert takes_turns(options)


@pytest.fixture
def bound_qemus(tmp_path: Path) -> Iterator[int]:
    """The CPU to which three processes called QEMU are bound: more than run here for other reasons."""
    program = tmp_path / "qemu-system-x86_64"
    shutil.copy(sys.executable, program)
    cpu = min(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, {{{cpu}}}); print(flush=True); input()"
    with ExitStack() as stack:
        for _ in range(3):
            process = subprocess.Popen([program, "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            stack.enter_context(process)
            stack.callback(process.kill)
            assert process.stdout is not None
            process.stdout.readline()
        yield cpu


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="this host gives the tests one CPU")
def test_what_is_started_runs_on_the_cpu_with_the_fewest_machines(bound_qemus: int) -> None:
    before = os.sched_getaffinity(0)
    with on_one_cpu() as cpu:
        seen = subprocess.run(
            [sys.executable, "-c", "import os; print(*os.sched_getaffinity(0))"], capture_output=True, text=True, check=True
        )
    assert seen.stdout.split() == [str(cpu)]
    assert cpu != bound_qemus
    assert os.sched_getaffinity(0) == before


def test_the_cpus_come_back_after_an_error() -> None:
    before = os.sched_getaffinity(0)
    with pytest.raises(RuntimeError, match="no start"), on_one_cpu():
        raise RuntimeError("no start")
    assert os.sched_getaffinity(0) == before
