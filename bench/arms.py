"""The two arms: bedplate as it is built from this checkout, and an ordinary Debian; and one way to start both.

QEMU's argv comes from `bedplate.image.qemu` for both, so machine, processor, memory, disk, network and TPM are the same.
What differs is the image with its kernel, initrd and command line; and bedplate's engine and model are disks of their own.
"""

from __future__ import annotations

import base64
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import bedplate
from bedplate.act.lock import hold_cache
from bedplate.act.paths import Paths
from bedplate.act.run import find_program, search_path
from bedplate.errors import PreflightError, ReadError
from bedplate.host.root.root import Root
from bedplate.host.system.buildhost import find_mirror, read_build_host
from bedplate.host.system.port import find_free_port
from bedplate.image.build import build_image
from bedplate.image.engine import build_engine
from bedplate.image.kvm import choose_accel
from bedplate.image.machine import Machine, Programs, clear_stale, kill_machine, start_machine, stop_machine
from bedplate.image.manifest import EngineLayer, Image
from bedplate.image.models_disk import ensure_models_disk
from bedplate.image.qemu import CONSOLE_SOCKET, BootOptions
from bedplate.image.qmp import connect_unix
from bedplate.image.recipe import recipes_directory
from bedplate.image.tools import ensure_tools
from bedplate.model.buildhost import Firmware
from bedplate.model.machine import Accel, AccelChoice, BootMode
from bedplate.model.progress import Progress
from bedplate.model.units import GIB
from bedplate.weights.store import Store
from bench.stock import build_stock

MODEL = "known-answer"
OURS, STOCK = "bedplate", "stock"
GUEST_MEMORY_BYTES = 2 * GIB
_IDLE_CMDLINE = {OURS: "", STOCK: "systemd.mask=llama-server.service"}  # bedplate has no engine without a models disk
_CONSOLE_S = 240.0


Seasoned = dict[tuple[str, BootMode], Path]
"""Of an arm and a mode: the directory of a machine that was booted once and shut down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    name: str
    image: Image
    engine: str | None
    models: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Everything that is measured, built and ready."""

    paths: Paths
    ours: Arm
    stock: Arm
    layer: EngineLayer
    programs: Programs
    firmware: Firmware | None
    accel: Accel

    @property
    def arms(self) -> tuple[Arm, Arm]:
        return (self.ours, self.stock)


def prepare(paths: Paths, progress: Progress) -> Bench:
    """Build what is not built yet; nothing of it is timed."""
    layer = build_engine(paths, progress, mirror=find_mirror())
    image = build_image(paths, progress, mirror=find_mirror())
    with hold_cache(paths, progress, what="the making of the build tools"):
        tools = ensure_tools(paths, recipes_directory(), progress, mirror=find_mirror())
    with progress.phase("the model and its disk"):
        shipped = Path(bedplate.__file__).parent / "catalog/known_answer/known-answer.gguf"
        model = Store(bench_directory(paths) / "models").add(shipped, progress=progress, name=MODEL, overwrite=True)
        disk = ensure_models_disk(replace(paths, state=bench_directory(paths)), [model], progress)
    with progress.phase("the stock arm"):
        stock = build_stock(paths, tools, layer, model, progress, guest_memory_bytes=GUEST_MEMORY_BYTES)
    host = read_build_host(root=Root(), directories=(paths.cache,), programs=(), files=(), search_path=search_path())
    programs = Programs(
        qemu=_program("qemu-system-x86_64"),
        qemu_img=_program("qemu-img"),
        tpm=_program("swtpm"),
        tpm_setup=_program("swtpm_setup"),
    )
    accel, because = choose_accel(paths, qemu=programs.qemu, choice=AccelChoice.AUTO)
    progress.note(f"accelerator {accel}: {because}")
    return Bench(
        paths=paths,
        ours=Arm(name=OURS, image=image, engine=str(layer.path), models=str(disk)),
        stock=Arm(name=STOCK, image=stock, engine=None, models=None),
        layer=layer,
        programs=programs,
        firmware=host.firmware,
        accel=accel,
    )


def bench_directory(paths: Paths) -> Path:
    """Where the bench keeps the stock arm, its machines and its copies; can be deleted at any time."""
    return paths.cache / "bench"


@contextmanager
def powered_on(
    bench: Bench, arm: Arm, mode: BootMode, progress: Progress, *, seasoned: Path | None, idle: bool = False
) -> Iterator[Machine]:
    """The arm's machine, started now and ended by force at the end of the block.

    seasoned is a machine's directory of an earlier boot whose disk and TPM are copied; without one the disk and the TPM are
    new and this is the image's first boot. idle leaves the engine and the model out.
    """
    place = replace(bench.paths, state=bench_directory(bench.paths) / f"machines/{arm.name}-{mode}{'-idle' if idle else ''}")
    clear_stale(place)
    kill_machine(place)
    shutil.rmtree(place.machine, ignore_errors=True)
    if seasoned is not None:
        shutil.copytree(seasoned, place.machine)
    options = BootOptions(
        mode=mode,
        accel=bench.accel,
        port=find_free_port(),
        memory_bytes=GUEST_MEMORY_BYTES,
        cpus=1,
        engine=arm.engine,
        models=None if idle else arm.models,
        firmware=bench.firmware,
        extra_cmdline=_IDLE_CMDLINE[arm.name] if idle else "",
    )
    machine = start_machine(place, arm.image, options, bench.programs, progress, fresh=seasoned is None)
    try:
        yield machine
    finally:
        kill_machine(place)


def season(bench: Bench, arm: Arm, mode: BootMode, machine: Machine, progress: Progress) -> Path:
    """Let a first boot come to its end, power it off as a user would, and keep disk and TPM; the kept directory."""
    ask(machine, "until systemctl is-active -q multi-user.target; do sleep 1; done; sync")
    place = replace(bench.paths, state=machine.directory.parent)
    stop_machine(place, progress)
    kept = bench_directory(bench.paths) / f"seasoned/{arm.name}-{mode}"
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(machine.directory, kept)
    return kept


def ask(machine: Machine, command: str, *, silence_s: float = _CONSOLE_S) -> str:
    """What a command prints in the machine's root shell on hvc0; waits until there is such a shell."""
    deadline = time.monotonic() + _CONSOLE_S
    while True:
        try:
            with connect_unix(machine.directory, CONSOLE_SOCKET, timeout_s=5.0) as console:
                if _converse(console, "echo ready", silence_s=4.0).strip() == "ready":
                    return _converse(console, command, silence_s=silence_s)
        except (OSError, ReadError) as error:
            if time.monotonic() > deadline:
                raise ReadError(f"{machine.directory}: no answer on the console: {error}") from error
        time.sleep(1.0)


def _converse(console: socket.socket, command: str, *, silence_s: float) -> str:
    # As `bedplate shell -c` does: one typed line, with the marks split so that its echo is not taken for its output.
    encoded = base64.b64encode(command.encode()).decode()
    console.settimeout(silence_s)
    told = f'eval "$(echo {encoded} | base64 -d)"'
    console.sendall(f"\x15stty -echo; echo bench-'begin'; {told}; echo bench-'end'; stty echo\n".encode())
    text = ""
    while not (found := re.search(r"bench-begin\n(.*)bench-end\n", text, re.DOTALL)):
        chunk = console.recv(65536)  # TimeoutError is an OSError
        if not chunk:
            raise ReadError("the machine ended while it was asked")
        text += chunk.decode(errors="replace").replace("\r\n", "\n")
    return found[1]


def cpu_seconds(pid: int) -> float:
    """User and system seconds that a process has used so far: fields 14 and 15 of /proc/PID/stat, proc_pid_stat(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _program(name: str) -> str:
    path = find_program(name)
    if path is None:
        raise PreflightError(f"{name}: not found", hint="Run `bedplate up` once: it says what to install.")
    return path
