"""The guest: booted from the image with an overlay of its own, asked over its console, rebooted, powered off.

It has 2 CPUs, 2 GiB, a scratch disk at /scratch, and a directory of this host at /share, both ways. llama-server.service
answers on port 8080 inside and on `port` of 127.0.0.1 outside; nothing else leads out of it.
"""

from __future__ import annotations

import json
import shlex
import shutil
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import bedplate
from bedplate.act.paths import Paths
from bedplate.act.run import find_program, run
from bedplate.errors import BedplateError, BootError, PreflightError
from bedplate.host.system.port import find_free_port
from bedplate.image.console import ConsoleResult, ask_console
from bedplate.image.kvm import choose_accel
from bedplate.image.machine import (
    Machine,
    Programs,
    clear_stale,
    kill_machine,
    read_health,
    read_tail,
    start_machine,
    stop_machine,
)
from bedplate.image.manifest import Image
from bedplate.image.qemu import CONSOLE_SOCKET, QMP_SOCKET, SERIAL_LOG, BootOptions
from bedplate.image.qmp import connect_unix, send_qmp
from bedplate.model.machine import AccelChoice, BootMode
from bedplate.model.progress import Progress
from bedplate.model.units import GIB
from bench.inplace.image import build_inplace
from bench.inplace.silence import SYSRQ, describe_silence

BOOT_S = 900.0
"""A boot takes 35 s under TCG on two quiet CPUs (76 s with one thread); more where they are shared."""
# A command with so much time that does not answer is looked into; one that asks whether a boot is over is not.
_PATIENT_S = 60.0
_TRIES = 3
_CRASHED = ("Oops", "Kernel panic", "BUG: ", "Dependency failed for local-fs.target")
# Beside other work on this host a disk was not there after 90 s, and the boot ended in emergency mode.
_PATIENCE = f"systemd.default_device_timeout_sec=900 systemd.default_timeout_start_sec=300 {SYSRQ}"
_SHARE, _SCRATCH = "share", "scratch.raw"
_ENVIRONMENT = "export TERM=dumb NO_COLOR=1 SYSTEMD_PAGER=cat SYSTEMD_COLORS=0; "
_SOURCES = "/usr/local/lib/bedplate"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestOptions:
    cpus: int = 2
    memory_bytes: int = 2 * GIB
    parallel: bool = True
    """A thread of this host for each CPU: twice as fast and fit for timings, with all of its memory there from the start,
    so that no first touch of a page is timed. A boot that fails by it is made again."""
    scratch_bytes: int = 4 * GIB
    scratch_bytes_per_s: int | None = None
    """Limits that QEMU sets on the scratch disk; without them it is as fast as this host's page cache."""
    scratch_operations_per_s: int | None = None
    data: Path | None = None
    """Raw image of an ext4 file system, mounted read-only at /data (make_data_disk)."""
    serve: bool = True
    """Whether llama-server starts with the system."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    paths: Paths
    """The cache is this host's; the state is the guest's own directory."""
    machine: Machine
    progress: Progress

    @property
    def port(self) -> int:
        """Of 127.0.0.1 on this host; leads to port 8080 of the guest."""
        return self.machine.port

    @property
    def share(self) -> Path:
        """A directory of this host that is /share in the guest; both write."""
        return self.machine.directory / _SHARE

    def run(
        self, command: str, *, timeout_s: float = 600.0, silence_s: float | None = None, ok: bool = True
    ) -> ConsoleResult:
        """Run a command in the guest's root shell (bash): its status and what it printed, stderr with it.

        Raises BootError when it runs past timeout_s or prints nothing for silence_s (timeout_s without it), is interrupted
        then, when its kernel crashed, and when ok and its status is not 0. The error says what a
        guest does that does not answer.
        """
        with connect_unix(self.machine.directory, CONSOLE_SOCKET, timeout_s=10.0) as console:
            try:
                answer = ask_console(console, _ENVIRONMENT + command, silence_s=silence_s or timeout_s, timeout_s=timeout_s)
            except BootError as error:
                if self.has_crashed():
                    said = read_tail(self.machine.directory / SERIAL_LOG)[-4000:]
                    raise BootError(f"in the guest: {command}: its kernel has crashed\n{said}") from error
                if (silence_s or timeout_s) >= _PATIENT_S:
                    raise BootError(f"in the guest: {command}: {error.message}\n{describe_silence(self.machine)}") from error
                raise
        if ok and answer.status != 0:
            raise BootError(f"in the guest: {command}: status {answer.status}\n{answer.output[-4000:]}")
        return answer

    def run_json(self, command: str, *, timeout_s: float = 120.0) -> Any:
        """What a command prints as JSON, by a file: QEMU drops what a console prints while this host is slow to read it."""
        answer = self.share / "answer.json"
        self.run(f"{command} >/share/{answer.name}", timeout_s=timeout_s)
        return json.loads(answer.read_text())

    def boot_id(self) -> str:
        return self.run("cat /proc/sys/kernel/random/boot_id").output.strip()

    def install(self) -> None:
        """Put this checkout's bedplate, as it is now, into the guest; `bedplate` is then a command of it."""
        with tarfile.open(self.share / "bedplate.tar", "w") as archive:
            archive.add(Path(bedplate.__file__).parent, "bedplate", filter=_leave_byte_code)
        self.run(f"rm -rf {_SOURCES} && mkdir -p {_SOURCES} && tar -xf /share/bedplate.tar -C {_SOURCES} && sync")

    def has_crashed(self) -> bool:
        """Whether the kernel has told an error of its own on the serial port since QEMU was started."""
        text = read_tail(self.machine.directory / SERIAL_LOG)
        return any(sign in text for sign in _CRASHED)

    def wait_boot(self, *, timeout_s: float = BOOT_S, other_than: str | None = None) -> None:
        """Wait until the system is up; other_than is the id of a boot that is not meant. Raises BootError."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                boot = self.run("cat /proc/sys/kernel/random/boot_id", timeout_s=15).output.strip()
                if boot != other_than:
                    left_s = deadline - time.monotonic()
                    self.run("systemctl is-system-running --wait", timeout_s=max(left_s, 1.0), ok=False)
                    return
            except (BedplateError, OSError) as error:
                if self.has_crashed():
                    raise
                reason: Exception | None = error
            else:
                reason = None
            if time.monotonic() > deadline:
                said = read_tail(self.machine.directory / SERIAL_LOG)[-4000:]
                raise BootError(f"the guest did not boot within {timeout_s:.0f} s; its last words:\n{said}") from reason
            self.progress.detail("the guest boots")
            time.sleep(0.5)

    def wait_serving(self, *, timeout_s: float = 240.0) -> None:
        """Wait until llama-server answers its health check from outside. Raises BootError."""
        deadline = time.monotonic() + timeout_s
        while read_health(self.port) != 200:
            if time.monotonic() > deadline:
                log = self.run("journalctl -u llama-server -n 20 --no-pager", ok=False).output
                raise BootError(f"llama-server did not answer within {timeout_s:.0f} s\n{log}")
            time.sleep(0.5)

    def serve(self, *, model: str = "/models/model.gguf", threads: int = 2, extra: str = "") -> None:
        """Start llama-server again with another model (a path in the guest below /models, /data or /scratch) and wait."""
        lines = f"LLAMA_MODEL={model}\nLLAMA_THREADS={threads}\nLLAMA_EXTRA={extra}\n"
        self.run(f"printf %s {shlex.quote(lines)} >/etc/default/llama-server && systemctl restart llama-server")
        self.wait_serving()

    def reboot(self) -> None:
        """Shut down and start again, as `systemctl reboot` does."""
        before = self.boot_id()
        self.run("systemctl reboot", ok=False)
        self.wait_boot(other_than=before)

    def reset(self) -> None:
        """Start again as after a loss of power: what was not on the disk is lost."""
        before = self.boot_id()
        send_qmp(self.machine.directory, QMP_SOCKET, "system_reset")
        self.wait_boot(other_than=before)

    def power_off(self) -> None:
        """Shut down, by force after a minute; its disks stay until its directory is removed."""
        stop_machine(self.paths, self.progress)


@contextmanager
def running_guest(
    paths: Paths, progress: Progress, *, directory: Path, options: GuestOptions | None = None, install: bool = True
) -> Iterator[Guest]:
    """A guest, booted now with new disks below directory, with bedplate installed; ended by force after the block.

    Builds the image first where it is not built. Raises BuildError or BootError.
    """
    options = options or GuestOptions()
    image = build_inplace(paths, progress)
    place = replace(paths, state=directory)
    try:
        guest = _boot(paths, place, image, options, progress)
        if options.data is not None:
            guest.run("mount -o ro LABEL=data /data")
        if install:
            guest.install()
        yield guest
    finally:
        kill_machine(place)


def _boot(paths: Paths, place: Paths, image: Image, options: GuestOptions, progress: Progress) -> Guest:
    programs = Programs(qemu=_program("qemu-system-x86_64"), qemu_img=_program("qemu-img"), tpm="", tpm_setup="")
    accel, _ = choose_accel(paths, qemu=programs.qemu, choice=AccelChoice.AUTO)
    boot = BootOptions(
        mode=BootMode.DIRECT,
        accel=accel,
        port=find_free_port(),
        memory_bytes=options.memory_bytes,
        cpus=options.cpus,
        parallel=options.parallel,
        tpm=False,
        models=None,
        extra_cmdline=_PATIENCE if options.serve else f"{_PATIENCE} systemd.mask=llama-server.service",
        extra_argv=_extra_argv(options),
    )
    for attempt in range(1, _TRIES + 1):
        clear_stale(place)
        kill_machine(place)
        shutil.rmtree(place.machine, ignore_errors=True)
        (place.machine / _SHARE).mkdir(parents=True)
        _make_scratch(place.machine / _SCRATCH, options.scratch_bytes)
        with progress.phase("the guest boots"):
            machine = start_machine(place, image, boot, programs, progress, fresh=True)
            guest = Guest(paths=place, machine=machine, progress=progress)
            try:
                guest.wait_boot()
                guest.run("mountpoint -q /scratch || mount /scratch")
                return guest
            except (BedplateError, OSError) as error:
                # See `_accel` of bedplate.image.qemu: under TCG with a thread for each CPU a kernel may meet a stale int3.
                if attempt == _TRIES or not guest.has_crashed():
                    raise
                progress.note(f"the guest's kernel crashed at boot, starting it again: {error}")
    raise AssertionError("unreachable")


def make_data_disk(file: Path, content: Path) -> None:
    """Write an ext4 file system labelled "data" with the files of a directory, for GuestOptions.data."""
    used = sum(file.stat().st_size for file in content.rglob("*") if file.is_file())
    file.unlink(missing_ok=True)
    with file.open("wb") as handle:
        handle.truncate(used + used // 8 + 64 * 1024 * 1024)
    run([_program("mkfs.ext4"), "-q", "-F", "-L", "data", "-m", "0", "-d", content, file], timeout_s=600)


def _make_scratch(file: Path, size_bytes: int) -> None:
    with file.open("wb") as handle:
        handle.truncate(size_bytes)
    # Whole from the start: the kernel would fill in a lazy one in the background, beside what is measured.
    lazy = "lazy_itable_init=0,lazy_journal_init=0"
    run([_program("mkfs.ext4"), "-q", "-F", "-L", "scratch", "-m", "0", "-E", lazy, file], timeout_s=300)


def _extra_argv(options: GuestOptions) -> tuple[str, ...]:
    scratch = f"if=none,id=scratch,format=raw,file={_SCRATCH},discard=unmap"
    for name, limit in (("bps-total", options.scratch_bytes_per_s), ("iops-total", options.scratch_operations_per_s)):
        if limit is not None:
            scratch += f",throttling.{name}={limit}"
    argv = []
    if options.parallel:
        argv += ["-object", f"memory-backend-ram,id=ram,size={options.memory_bytes},prealloc=on"]
        argv += ["-machine", "memory-backend=ram"]
    argv += ["-virtfs", f"local,path={_SHARE},mount_tag=share,security_model=none,multidevs=remap"]
    argv += ["-drive", scratch, "-device", "virtio-blk-pci,drive=scratch,serial=scratch"]
    if options.data is not None:
        argv += ["-drive", f"if=none,id=data,format=raw,readonly=on,file={options.data}"]
        argv += ["-device", "virtio-blk-pci,drive=data,serial=data"]
    return tuple(argv)


def _leave_byte_code(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "__pycache__" in entry.name else entry


def _program(name: str) -> str:
    path = find_program(name)
    if path is None:
        raise PreflightError(f"{name}: not found", hint="Run `bedplate up` once: it says what to install.")
    return path
