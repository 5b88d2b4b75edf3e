"""The one virtual machine of a state directory: started, watched until it serves, stopped, and found again.

One file says that it runs (machine.json: processes with their start times, where it listens, what it was made from). It is
written as soon as each process is there and removed last, so that whoever comes next, after whatever end, can finish or
undo what it finds. The callers hold the lock.
"""

from __future__ import annotations

import http.client
import json
import re
import shutil
import time
import uuid
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bedplate.act.files import write_whole
from bedplate.act.paths import Paths
from bedplate.act.process import ProcessIdentity, end_process, is_alive, read_process, wait_end
from bedplate.act.run import last_lines, run, spawn
from bedplate.engines.client import Endpoint, fetch
from bedplate.errors import BootError, CommandError, ReadError, UsageError
from bedplate.host.root.root import Root
from bedplate.host.system.port import find_free_port, is_port_free, read_port_owner
from bedplate.image.manifest import Image
from bedplate.image.one_cpu import on_one_cpu
from bedplate.image.qemu import (
    CONSOLE_SOCKET,
    OVERLAY,
    QMP_SOCKET,
    SERIAL_LOG,
    SERIAL_SOCKET,
    TPM_SOCKET,
    TPM_STATE,
    VARS,
    BootOptions,
    overlay_argv,
    qemu_argv,
    swtpm_argv,
    swtpm_setup_argv,
    takes_turns,
)
from bedplate.image.qmp import connect_unix, send_qmp
from bedplate.image.recipe import Variant
from bedplate.interrupts import hold_signals
from bedplate.model.machine import BootMode
from bedplate.model.progress import Progress

STATE = "machine.json"
QEMU_LOG, TPM_LOG = "qemu.log", "swtpm.log"
_DISK_ORIGIN, _UUID = "disk.json", "uuid"
_SCHEMA = 1
_POLL_S = 0.25
_TPM_START_S = 10.0
_QEMU_START_S = 20.0
POWERDOWN_S = 60.0
"""How long a guest may take to shut down; 10 to 30 s were seen under TCG."""
_PRESS_AGAIN_S = 5.0
"""A guest that is still starting hears neither its power button nor its console."""

_ESCAPES = re.compile(
    r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b\[[0-?]*[ -/]*[@-~]|\x1b[()][A-Z0-9]|\x1bc|[\x00-\x08\x0b-\x1f\x7f]"
)
_TIMESTAMP = re.compile(r"^(?:<\d+>)?\[\s*\d+\.\d+\]\s*")
# Lines that only repeat the one before, and lines that say less than what they stand for.
_EMPTY_WORDS = ("See 'systemctl status",)
_MEANINGS = (
    ("Booting from ROM", "kernel and initrd"),
    ("BdsDxe: starting", "the firmware loads and measures the image"),
)
_FAILED_ENGINE = re.compile(r"^bedplate: engine (\S+) failed: (.{1,400})", re.MULTILINE)
"""What the supervisor says on the consoles of an engine that it gives up (flows/supervise.py)."""
_HOPELESS = (
    ("Kernel panic", "the guest's kernel panicked"),
    ("bedplate: the machine stopped", "the guest's boot cannot continue"),
    ("You are in emergency mode", "the guest stopped in emergency mode"),
    ("bedplate: cannot start:", "the initrd refused to start the system"),
    ("is corrupted", "the root differs from the signed one: dm-verity"),
    ("Unable to mount root", "the guest found no root file system"),
    ("No bootable option or device was found", "the firmware found nothing to boot"),
    ("UEFI Interactive Shell", "the firmware found nothing to boot"),
    ("Security Violation", "the firmware refused the image: Secure Boot"),
    ("Access Denied", "the firmware refused the image: Secure Boot"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Programs:
    """Absolute paths. tpm and tpm_setup may be empty when no TPM is asked for."""

    qemu: str
    qemu_img: str
    tpm: str
    tpm_setup: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine as machine.json describes it, whether it still runs or not; `read_machine` gives only one that does."""

    directory: Path
    version: str
    """Of the image it was booted from."""
    mode: str
    accel: str
    port: int
    memory_bytes: int
    cpus: int
    models: tuple[str, ...]
    engine: str | None = None
    """Path of the engine's disk image; None where an older bedplate has started the machine."""
    open_network: bool = False
    tls: bool = False
    """Whether the guest's front speaks TLS and asks for keys: that of a production image does."""
    since: float
    """When it was started, in seconds of the epoch."""
    ready: bool
    """It has answered its health check once since it was started."""
    tpm: ProcessIdentity | None
    qemu: ProcessIdentity | None
    """None between the start of the TPM and that of QEMU."""

    @property
    def pid(self) -> int:
        """Process id of QEMU; 0 before it is started. Once it has ended, the number may be another's."""
        return self.qemu.pid if self.qemu is not None else 0

    @property
    def endpoint(self) -> str:
        """URL of the guest's front on this host, without a path; it answers once the guest serves."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"


def read_machine(paths: Paths) -> Machine | None:
    """The machine that runs; None when none does, also where a state file was left by one that is gone."""
    machine = _read_state(paths.machine)
    return machine if machine is not None and machine.qemu is not None and is_alive(machine.qemu) else None


def clear_stale(paths: Paths) -> bool:
    """End and remove what a machine left behind whose QEMU is gone; whether there was anything."""
    machine = _read_state(paths.machine)
    if machine is None or (machine.qemu is not None and is_alive(machine.qemu)):
        return False
    if machine.tpm is not None:
        end_process(machine.tpm, grace_s=2.0)
    _forget(paths.machine)
    return True


def check_port(port: int) -> None:
    """Raise UsageError naming who has the port, and a free one, when we cannot listen on it."""
    if is_port_free(port):
        return
    owner = read_port_owner(Root(), port) or "another process"
    raise UsageError(
        f"port {port} of 127.0.0.1: in use by {owner}",
        hint=f"Stop that process, or use another port: bedplate up --port {find_free_port()}",
    )


def start_machine(
    paths: Paths,
    image: Image,
    options: BootOptions,
    programs: Programs,
    progress: Progress,
    *,
    models: tuple[str, ...] = (),
    fresh: bool = False,
) -> Machine:
    """Start the TPM and QEMU; the machine is written down but its guest has not booted yet.

    The disk of the last machine goes on when it was made from the same image in the same boot mode, unless fresh; otherwise
    progress is told why it does not. Raises BootError with QEMU's last words, or UsageError for a port in use; nothing of it
    runs then.
    """
    directory = paths.machine
    directory.mkdir(parents=True, exist_ok=True)
    check_port(options.port)
    progress.detail("the machine's disk")
    _prepare_disk(directory, image, options, programs, progress, fresh=fresh)
    options = replace(options, uuid=options.uuid or _ensure_uuid(directory, progress))
    for log in (QEMU_LOG, TPM_LOG, SERIAL_LOG):
        (directory / log).unlink(missing_ok=True)
    machine = Machine(
        directory=directory,
        version=image.version,
        mode=options.mode,
        accel=options.accel,
        port=options.port,
        memory_bytes=options.memory_bytes,
        cpus=options.cpus,
        models=models,
        engine=options.engine,
        open_network=options.open_network,
        tls=image.variant is Variant.PRODUCTION,
        since=time.time(),
        ready=False,
        tpm=None,
        qemu=None,
    )
    try:
        if options.tpm:
            progress.detail("the TPM")
            machine = _start_tpm(machine, programs)
        progress.detail("QEMU")
        with on_one_cpu() if takes_turns(options) else nullcontext():
            return _start_qemu(machine, qemu_argv(programs.qemu, image, options))
    except BaseException:
        kill_machine(paths)
        raise


def wait_ready(machine: Machine, progress: Progress, *, timeout_s: float) -> Machine:
    """Wait until the endpoint's health check says 200, telling what the guest does meanwhile.

    Raises BootError with the guest's last lines when QEMU ends, the guest gives up, or the time is over; the machine is
    left as it is, for its caller to look at or end.
    """
    deadline = time.monotonic() + timeout_s
    log = machine.directory / SERIAL_LOG
    next_probe = 0.0
    while True:
        text = read_tail(log)
        if machine.qemu is None or wait_end(machine.qemu, timeout_s=_POLL_S):
            raise BootError(
                f"QEMU exited before the machine served{_quote(read_tail(machine.directory / QEMU_LOG), text)}",
                hint=f"Read {machine.directory / QEMU_LOG} and {log}.",
            )
        if failed_engine := _FAILED_ENGINE.search(text):
            model, reason = failed_engine.groups()
            raise BootError(
                f"the engine of {model} failed: {reason.strip()}",
                hint=f"Its messages are in the machine's journal; the boot is in {log}.",
            )
        for sign, meaning in _HOPELESS:
            if sign in text:
                raise BootError(f"{meaning}{_quote(text)}", hint=f"Read {log}.")
        progress.detail(last_meaningful_line(text) or "starting")
        if time.monotonic() >= next_probe:
            status = read_health(machine.port, tls=machine.tls)
            if status == 200:
                ready = replace(machine, ready=True)
                _write_state(ready)
                return ready
            next_probe = time.monotonic() + 2 * _POLL_S
        if time.monotonic() >= deadline:
            failed = "\n".join(line for line in text.splitlines() if "FAILED" in line)
            raise BootError(
                f"the machine did not serve within {timeout_s:.0f} s{_quote(failed, text)}",
                hint=f"Allow more time (bedplate up --timeout {2 * timeout_s:.0f}), or read {log}.",
            )


def stop_machine(paths: Paths, progress: Progress, *, powerdown_s: float = POWERDOWN_S) -> bool:
    """Power the machine off, by force after powerdown_s; whether one ran. Its disk stays for the next start."""
    machine = read_machine(paths)
    if machine is None or machine.qemu is None:
        clear_stale(paths)
        return False
    try:
        _power_off(machine.directory, machine.qemu, progress, powerdown_s)
    except BootError as error:
        progress.note(f"{error.message}; ending it by force")
    else:
        if powerdown_s and is_alive(machine.qemu):
            progress.note(f"the guest did not power off within {powerdown_s:.0f} s; ending it by force")
    kill_machine(paths)
    return True


def kill_machine(paths: Paths) -> None:
    """End the machine's processes at once, without asking the guest; its disk is closed properly where QEMU still answers.

    Returns when they are gone. Nothing is done where no machine was.
    """
    machine = _read_state(paths.machine)
    if machine is None:
        return
    if machine.qemu is not None and is_alive(machine.qemu):
        try:
            send_qmp(machine.directory, QMP_SOCKET, "quit", timeout_s=2.0)  # closes the disk as it should be
            wait_end(machine.qemu, timeout_s=2.0)
        except BootError:
            pass  # it is ended by signal next
        end_process(machine.qemu, grace_s=3.0)
    if machine.tpm is not None:
        wait_end(machine.tpm, timeout_s=1.0)  # it ends with QEMU's connection
        end_process(machine.tpm, grace_s=2.0)
    _forget(paths.machine)


def read_health(port: int, *, tls: bool = False, path: str = "/health", timeout_s: float = 5.0) -> int | None:
    """HTTP status of /health at the port of 127.0.0.1; None when nothing answers within timeout_s, or not in HTTP.

    path: "/health/MODEL" asks for one model.
    """
    try:
        return fetch(Endpoint(host="127.0.0.1", port=port, tls=tls), path, timeout_s=timeout_s).status
    except (OSError, http.client.HTTPException):
        return None


def read_tail(file: Path, *, size: int = 32 * 1024) -> str:
    """The last `size` bytes of a log as text, cut anywhere; "" when there is none yet."""
    try:
        with file.open("rb") as handle:
            handle.seek(max(0, handle.seek(0, 2) - size))
            return handle.read().decode(errors="replace")
    except FileNotFoundError:
        return ""


def last_meaningful_line(text: str) -> str:
    """What a serial console said last, without escapes and the kernel's time stamps; empty when it said nothing yet.

    "[   12.01] systemd[1]: Started x.service - The X.\\r\\n\\r\\n" -> "systemd[1]: Started x.service - The X."
    """
    for line in reversed(re.split(r"[\r\n]+", text)):
        clean = _TIMESTAMP.sub("", _ESCAPES.sub("", line)).strip()
        if clean.startswith(_EMPTY_WORDS) or not any(character.isalpha() for character in clean):
            continue
        return next((meaning for sign, meaning in _MEANINGS if sign in clean), clean[:160])
    return ""


def _power_off(directory: Path, qemu: ProcessIdentity, progress: Progress, timeout_s: float) -> None:
    """Ask the guest to power off, again and again, until it has or timeout_s are over."""
    deadline, next_press = time.monotonic() + timeout_s, 0.0
    while (left_s := deadline - time.monotonic()) > 0 and is_alive(qemu):
        if time.monotonic() >= next_press:
            _press_power_button(directory, qemu)
            next_press = time.monotonic() + _PRESS_AGAIN_S
        wait_end(qemu, timeout_s=min(left_s, 1.0))
        progress.detail(last_meaningful_line(read_tail(directory / SERIAL_LOG)) or "shutting down")


def _press_power_button(directory: Path, qemu: ProcessIdentity) -> None:
    """Ask for the power-off, on the debug console too: an image without systemd-logind does not hear the power button.

    Where there is no shell on the console, nobody reads it. Raises BootError when QEMU lives and does not answer.
    """
    try:
        send_qmp(directory, QMP_SOCKET, "system_powerdown")
    except BootError:
        if not wait_end(qemu, timeout_s=1.0):
            raise
        return  # it was about to end
    try:
        with connect_unix(directory, CONSOLE_SOCKET, timeout_s=2.0) as console:
            console.sendall(b"\x15systemctl poweroff\n")  # Ctrl-U takes away a half-typed line
    except OSError:
        pass  # the power button alone must do


def disk_origin(image: Image, options: BootOptions) -> dict[str, str]:
    """What a machine's disk, TPM and firmware variables were made for: where one of it differs, they are made anew.

    Only what the boot mode uses: a direct boot has no firmware, so that one which is installed later changes nothing.
    """
    stat = image.raw.stat()
    origin = {
        "image": f"{image.raw} ({stat.st_size} bytes, {stat.st_mtime_ns})",
        "boot mode": str(options.mode),
        "TPM": "yes" if options.tpm else "no",
    }
    if options.mode is not BootMode.DIRECT and options.firmware is not None:
        origin["firmware"] = f"{options.firmware.code} {options.firmware.vars}"
    return origin


def _prepare_disk(
    directory: Path, image: Image, options: BootOptions, programs: Programs, progress: Progress, *, fresh: bool
) -> None:
    origin = disk_origin(image, options)
    stamp = directory / _DISK_ORIGIN
    last = _read_origin(stamp)
    if last == origin and not fresh:
        return
    if (directory / OVERLAY).exists() and not fresh:  # otherwise it is the first one, or the user asked for a new one
        progress.note(f"the machine gets a new disk and TPM, and its /var is empty: {_say_change(last, origin)}")
    stamp.unlink(missing_ok=True)  # last written, first removed: a half-made disk is never taken for a whole one
    for name in (OVERLAY, VARS):
        (directory / name).unlink(missing_ok=True)
    shutil.rmtree(directory / TPM_STATE, ignore_errors=True)
    run(overlay_argv(programs.qemu_img, image), timeout_s=60, cwd=directory)
    if options.tpm:
        (directory / TPM_STATE).mkdir()
        run(swtpm_setup_argv(programs.tpm_setup), timeout_s=60, cwd=directory)
    if options.mode is not BootMode.DIRECT and options.firmware is not None:
        shutil.copyfile(options.firmware.vars, directory / VARS)
    write_whole(directory / _UUID, str(uuid.uuid4()), sync=True)  # a new disk is a new machine
    write_whole(stamp, json.dumps(origin), sync=True)


def _ensure_uuid(directory: Path, progress: Progress) -> str:
    """The machine's UUID; a new one, and said, where it was lost: the disk goes on."""
    try:
        return str(uuid.UUID((directory / _UUID).read_text()))
    except (FileNotFoundError, ValueError):  # ValueError: no UUID, or not UTF-8
        made = str(uuid.uuid4())
        progress.note(f"{directory / _UUID}: holds no UUID: the machine gets a new UUID and a new machine id")
        write_whole(directory / _UUID, made, sync=True)
        return made


def _read_origin(stamp: Path) -> dict[str, str] | None:
    """What the last disk was made for; None when that is not known."""
    try:
        return {str(name): str(value) for name, value in json.loads(stamp.read_text()).items()}
    except (FileNotFoundError, ValueError, AttributeError):
        return None


def _say_change(last: dict[str, str] | None, origin: dict[str, str]) -> str:
    if last is None:
        return "no record shows what the last disk was made for (an interrupted `up`, or an older bedplate)"
    changed = [name for name in (last | origin) if last.get(name) != origin.get(name)]
    return "; ".join(f"{name} was {last.get(name, 'none')}, now {origin.get(name, 'none')}" for name in changed)


def _start_tpm(machine: Machine, programs: Programs) -> Machine:
    directory = machine.directory
    (directory / TPM_SOCKET).unlink(missing_ok=True)
    started = _spawn(swtpm_argv(programs.tpm), directory / TPM_LOG, lambda process: replace(machine, tpm=process))
    _wait_for_socket(directory / TPM_SOCKET, started.tpm, "swtpm", directory / TPM_LOG, _TPM_START_S)
    return started


def _start_qemu(machine: Machine, argv: tuple[str, ...]) -> Machine:
    directory = machine.directory
    for name in (SERIAL_SOCKET, CONSOLE_SOCKET, QMP_SOCKET):
        (directory / name).unlink(missing_ok=True)
    started = _spawn(argv, directory / QEMU_LOG, lambda process: replace(machine, qemu=process))
    _wait_for_socket(directory / QMP_SOCKET, started.qemu, "QEMU", directory / QEMU_LOG, _QEMU_START_S)
    return started


def _spawn(argv: tuple[str, ...], log: Path, note: Callable[[ProcessIdentity], Machine]) -> Machine:
    """Start a program and write down the machine that it makes, with no moment between in which a signal could lose it."""
    with hold_signals():
        try:
            started = spawn(argv, log=log, cwd=log.parent)
        except CommandError as error:
            raise BootError(error.message) from error
        process = read_process(started.pid)
        if process is not None:
            machine = note(process)
            _write_state(machine)
            started.returncode = 0  # it outlives this object, which must not complain about that
            return machine
    raise BootError(f"{Path(argv[0]).name} exited at once{_quote(read_tail(log))}", hint=f"Read {log}.")


def _wait_for_socket(path: Path, process: ProcessIdentity | None, name: str, log: Path, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not path.is_socket():
        if process is None or wait_end(process, timeout_s=0.02):
            raise BootError(f"{name} exited at once{_quote(read_tail(log))}", hint=f"Read {log}.")
        if time.monotonic() > deadline:
            raise BootError(f"{name}: no {path.name} after {timeout_s:.0f} s{_quote(read_tail(log))}", hint=f"Read {log}.")


def _quote(*texts: str) -> str:
    """The last lines of the first text that says something, as the end of a message."""
    for text in texts:
        lines = [_ESCAPES.sub("", line).strip() for line in last_lines(text, 6).splitlines() if not line.startswith("$ ")]
        if lines:
            return ":\n" + "\n".join(f"  | {line[:200]}" for line in lines)
    return ""


def _read_state(directory: Path) -> Machine | None:
    file = directory / STATE
    try:
        record: dict[str, Any] = json.loads(file.read_text())
        if record.pop("schema") != _SCHEMA:
            raise ValueError("it is of another version of bedplate")
        for name in ("tpm", "qemu"):
            record[name] = ProcessIdentity(**record[name]) if record[name] is not None else None
        return Machine(**(record | {"directory": directory, "models": tuple(record["models"])}))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise ReadError(
            f"{file}: not the state of a machine: {error}",
            hint=f"If you run no qemu-system-x86_64, remove the file: rm {file}",
        ) from error


def _write_state(machine: Machine) -> None:
    record = asdict(machine)
    del record["directory"]
    text = json.dumps({"schema": _SCHEMA, **record}, indent=1) + "\n"
    write_whole(machine.directory / STATE, text, sync=False)  # of processes: a reset ends them too


def _forget(directory: Path) -> None:
    for name in (SERIAL_SOCKET, CONSOLE_SOCKET, QMP_SOCKET, TPM_SOCKET, STATE):
        (directory / name).unlink(missing_ok=True)
