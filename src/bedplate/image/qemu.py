"""How the machine is started: an image, options and the files of its directory -> argv of QEMU and of swtpm. Pure.

All names are relative to the machine's directory, in which both programs run: a Unix socket's path ends at 107 bytes and a
state directory may be longer than that.

Three ways to boot. `direct`: SeaBIOS hands over to the kernel, which starts at 1.4-2.1 s under TCG instead of about 27 s;
no measured boot, for development. `uefi`: OVMF without SMM starts the signed UKI from the disk. `secure`: OVMF with SMM and
its own variable store, keys enrolled by systemd-boot at the first boot: the whole chain. In `uefi` systemd-boot enrols
them too where the firmware knows Secure Boot, as Debian's OVMF_CODE_4M.fd does: it is on then, but a kernel could change it.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

from bedplate.image.manifest import Image
from bedplate.model.buildhost import Firmware
from bedplate.model.machine import Accel, BootMode
from bedplate.model.units import GIB, MIB

OVERLAY, VARS, MODELS = "overlay.qcow2", "vars.fd", "models.erofs"
SERIAL_LOG, SERIAL_SOCKET = "serial.log", "serial.sock"
CONSOLE_SOCKET = "console.sock"
"""The debug console of development images: hvc0 in the guest."""
QMP_SOCKET, TPM_SOCKET, TPM_STATE = "qmp.sock", "tpm.sock", "tpm"
GUEST_PORT = 8080
DISK_BYTES = 16 * GIB  # of the overlay, sparse: slot B and /var come to exist in it at the first boot
MAGIC_EXIT = 0x2A
"""What a test writes to isa-debug-exit from inside to say yes; QEMU's status is then (value << 1) | 1."""

_SMBIOS_LIMIT = 100 * 1024  # bytes of one credential in base64: the kernel's limit of one argument is 128 KiB


@dataclass(frozen=True, slots=True, kw_only=True)
class BootOptions:
    """What `qemu_argv` is made from, besides the image.

    Paths are as QEMU opens them: in the machine's directory, or absolute.
    """

    mode: BootMode
    accel: Accel
    port: int
    """TCP port of 127.0.0.1 on this host that leads to the guest's front."""
    memory_bytes: int = 2 * GIB
    cpus: int = 2
    parallel: bool = False
    """For measurements: under emulation, a thread of this host for each CPU, at the price told at `_accel`."""
    tpm: bool = True
    uuid: str | None = None
    """The firmware's machine UUID, from which the guest makes its machine id."""
    engine: str | None = None
    """Path of the engine's disk image."""
    engine_name: str = "llamacpp"
    models: str | None = MODELS
    """Path of the models' disk; None without one."""
    firmware: Firmware | None = None
    """Needed by uefi and secure."""
    credentials: tuple[tuple[str, bytes], ...] = ()
    """systemd credentials for the guest: (name, value)."""
    extra_cmdline: str = ""
    """Added to the kernel's command line; only direct boots can."""
    open_network: bool = False
    """The guest reaches the host and beyond; otherwise only the forwarded port leads in and nothing out."""
    reboot: bool = True
    """Whether a reboot of the guest starts it again; otherwise it ends the machine."""
    debug_exit: bool = False
    """For tests: the guest can end QEMU with a status of its choice."""
    extra_serial_log: str | None = None
    """For tests: a file that takes what the guest writes to ttyS1."""
    extra_argv: tuple[str, ...] = ()
    """For tests: more words for QEMU, after all others."""


def qemu_argv(qemu: str, image: Image, options: BootOptions) -> tuple[str, ...]:
    """QEMU's argv for one machine; raises ValueError when options contradict each other."""
    argv = [qemu, "-name", f"bedplate-{image.version},debug-threads=on"]  # top -H tells a guest's CPUs from QEMU's own work
    argv += ["-nodefaults", "-no-user-config", "-display", "none"]
    smm = "on" if options.mode is BootMode.SECURE else "off"
    argv += ["-machine", f"q35,smm={smm},vmport=off,hpet=off,graphics=off"]
    argv += ["-accel", *_accel(options), "-m", f"{options.memory_bytes // MIB}M", "-smp", _cpus(options)]
    argv += ["-boot", "menu=off,strict=on", "-rtc", "base=utc"]
    if options.uuid is not None:
        argv += ["-uuid", options.uuid]
    argv += _boot(image, options)
    argv += _disk("root", OVERLAY, format="qcow2", serial="bp-root", bootindex=1)
    if options.engine is not None:
        argv += _disk("engine", options.engine, format="raw", serial=f"bp-{options.engine_name}", readonly=True)
    if options.models is not None:
        argv += _disk("models", options.models, format="raw", serial="bp-models", readonly=True)
    restrict = "off" if options.open_network else "on"
    forward = f"hostfwd=tcp:127.0.0.1:{options.port}-:{GUEST_PORT}"
    argv += ["-netdev", f"user,id=net,restrict={restrict},ipv6=off,{forward}"]
    argv += ["-device", "virtio-net-pci,netdev=net,romfile="]
    argv += ["-device", "virtio-rng-pci"]
    if options.tpm:
        argv += ["-chardev", f"socket,id=tpm,path={TPM_SOCKET}", "-tpmdev", "emulator,id=tpm0,chardev=tpm"]
        argv += ["-device", "tpm-crb,tpmdev=tpm0"]
    argv += _consoles(options)
    argv += ["-qmp", f"unix:{QMP_SOCKET},server=on,wait=off"]
    for name, value in options.credentials:
        argv += ["-smbios", f"type=11,value={_credential(name, value)}"]
    if not options.reboot:
        argv += ["-no-reboot"]
    if options.debug_exit:
        argv += ["-device", "isa-debug-exit,iobase=0xf4,iosize=1"]
    return (*argv, *options.extra_argv)


def overlay_argv(qemu_img: str, image: Image) -> tuple[str, ...]:
    """Make the writable disk of a machine over an image that stays as it is."""
    return (qemu_img, "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(image.raw), OVERLAY, str(DISK_BYTES))


def swtpm_setup_argv(setup: str) -> tuple[str, ...]:
    """Make the state of a new TPM. One PCR bank: firmware hashes what it measures once for each that is active."""
    return (setup, "--tpm2", "--tpmstate", TPM_STATE, "--pcr-banks", "sha256", "--createek", "--overwrite")


def swtpm_argv(swtpm: str) -> tuple[str, ...]:
    """The TPM of one machine; it ends by itself when QEMU leaves its socket."""
    control = f"type=unixio,path={TPM_SOCKET}"
    return (swtpm, "socket", "--tpm2", "--tpmstate", f"dir={TPM_STATE}", "--ctrl", control, "--terminate")


def takes_turns(options: BootOptions) -> bool:
    """Whether one thread emulates several CPUs, one after the other: such a machine belongs on one CPU (one_cpu)."""
    return options.accel is Accel.TCG and options.cpus > 1 and not options.parallel


def _cpus(options: BootOptions) -> str:
    """Of -smp. Where a second CPU could come, QEMU emulates barriers in full, which its devices need (one_cpu)."""
    return "1,maxcpus=2" if options.accel is Accel.TCG and options.cpus == 1 else str(options.cpus)


def _accel(options: BootOptions) -> list[str]:
    if options.accel is Accel.KVM:
        return ["kvm", "-cpu", "host"]
    # With a thread for each CPU a guest's kernel that patches its own code can meet a stale int3: 2 of 22 boots of 7.3.4
    # under QEMU 7.2 ended with "Oops: int3" (2026-11, docs/decisions/0030-one-machine.md); none of 21 with one thread.
    # With one thread the CPUs take turns of up to 100 ms, so that nothing finer can be timed in the guest.
    thread = "single" if takes_turns(options) else "multi"
    # la57=off: five levels of page tables make each walk longer and nothing here needs them.
    return [f"tcg,thread={thread},tb-size=1024", "-cpu", "max,la57=off,-erms"]


def _boot(image: Image, options: BootOptions) -> list[str]:
    if options.mode is BootMode.DIRECT:
        cmdline = f"{image.cmdline} {options.extra_cmdline}".strip()
        return ["-kernel", str(image.kernel), "-initrd", str(image.initrd), "-append", cmdline]
    if options.firmware is None:
        raise ValueError(f"a {options.mode} boot needs firmware")
    if options.extra_cmdline:
        raise ValueError(f"a {options.mode} boot takes its command line from the signed UKI")
    argv = ["-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={_escape(options.firmware.code)}"]
    argv += ["-drive", f"if=pflash,unit=1,format=raw,file={VARS}"]
    if options.mode is BootMode.SECURE:
        argv += ["-global", "driver=cfi.pflash01,property=secure,value=on"]
    return argv


def _disk(
    name: str, file: str, *, format: str, serial: str, readonly: bool = False, bootindex: int | None = None
) -> list[str]:
    drive = f"if=none,id={name},format={format},file={_escape(file)}"
    if readonly:
        drive += ",readonly=on"
    else:
        drive += ",discard=unmap"
    device = f"virtio-blk-pci,drive={name},serial={serial}"
    if bootindex is not None:
        device += f",bootindex={bootindex}"
    return ["-drive", drive, "-device", device]


def _consoles(options: BootOptions) -> list[str]:
    argv = ["-chardev", f"socket,id=serial,path={SERIAL_SOCKET},server=on,wait=off,logfile={SERIAL_LOG},logappend=off"]
    argv += ["-serial", "chardev:serial"]
    if options.extra_serial_log is not None:
        argv += ["-serial", f"file:{options.extra_serial_log}"]
    argv += ["-device", "virtio-serial-pci", "-chardev", f"socket,id=console,path={CONSOLE_SOCKET},server=on,wait=off"]
    return [*argv, "-device", "virtconsole,chardev=console"]


def _credential(name: str, value: bytes) -> str:
    text = base64.b64encode(value).decode()
    if len(text) > _SMBIOS_LIMIT:
        raise ValueError(f"credential {name}: {len(value)} bytes do not fit into one SMBIOS string of the command line")
    return f"io.systemd.credential.binary:{name}={text}"


def _escape(path: str) -> str:
    return path.replace(",", ",,")  # QEMU's own quoting of a comma in an option
