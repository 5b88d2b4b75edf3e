"""Whether guests really run under KVM here: a bounded trial, since /dev/kvm may exist on machines where none does.

The trial is a boot sector that goes where a kernel goes: through SeaBIOS into long mode with paging, CPUID, MSRs and port
I/O, then 200 million turns of a loop; only the magic exit status sent from inside is a yes. Two machines shaped it. A guest
that stays in real mode ends well on a host whose KVM emulates each instruction in software, where a kernel is still
unpacking itself after a minute: the loop takes 0.1 s on hardware, 0.7 s under TCG and minutes there. And with the host's
own CPU model (which a real boot uses) QEMU aborts on that host at once: "failed to set MSR 0x10a".
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bedplate.act.files import write_whole
from bedplate.act.paths import Paths
from bedplate.act.run import last_lines, run
from bedplate.errors import BedplateError, CommandTimeout, UsageError
from bedplate.model.machine import Accel, AccelChoice

_LIMIT_S = 5.0
_MAGIC = 0x2A
_MAGIC_STATUS = _MAGIC << 1 | 1  # isa-debug-exit ends QEMU with (value << 1) | 1
_SCHEMA = 1

# 16-bit code at 0x7c00. Page tables: PML4 at 0x1000, PDPT at 0x2000, PD at 0x3000; the first 2 MiB mapped to themselves.
_CODE = bytes.fromhex(
    "fa"  # cli
    "31c0 8ed8 8ec0 8ed0"  # xor ax,ax; mov ds,es,ss <- ax
    "66bf00100000 6631c0 66b9000c0000 66f3ab"  # clear 12 KiB from 0x1000
    "66c706001003200000"  # PML4[0] = 0x2000 | present | writable
    "66c706002003300000"  # PDPT[0] = 0x3000 | present | writable
    "66c706003083000000"  # PD[0] = 0 | present | writable | 2 MiB page
    "0f0116b07c"  # lgdt [0x7cb0]
    "66b8a0000000 0f22e0"  # cr4 = PAE | PGE
    "66b800100000 0f22d8"  # cr3 = 0x1000
    "66b9800000c0 0f32 80cc01 0f30"  # EFER |= LME
    "0f20c0 660d01000080 0f22c0"  # cr0 |= PG | PE
    "ea6b7c0800"  # jmp 0x08:0x7c6b, into 64-bit code
    "bd64000000"  # mov ebp,100
    "31c0 0fa2"  # again: cpuid leaf 0
    "b9800000c0 0f32 0f31"  # rdmsr EFER; rdtsc
    "e680"  # out 0x80,al
    "0f20d8 0f22d8"  # mov cr3,cr3: flush the TLB
    "ffcd 75e7"  # dec ebp; jnz again
    "b900c2eb0b ffc9 75fc"  # mov ecx,200000000; loop: dec ecx; jnz loop
    "b02a 66baf400 ee"  # out 0xf4,0x2a: the magic exit status
    "f4 ebfd 0f1f4000"  # hlt for ever; padding to 0x7ca0
    "0000000000000000 00000000009a2000"  # GDT: null; 64-bit code
    "0f00 a07c0000"  # GDTR: limit 15, base 0x7ca0
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KvmTrial:
    """Whether a guest ran under KVM on this host, and how that was found out."""

    works: bool
    because: str
    """One line for people."""


def boot_sector() -> bytes:
    """The trial's disk: one sector with the code and its signature, padded to 1 MiB for the BIOS's geometry."""
    return (_CODE.ljust(510, b"\0") + b"\x55\xaa").ljust(1024 * 1024, b"\0")


def choose_accel(paths: Paths, *, qemu: str, choice: AccelChoice) -> tuple[Accel, str]:
    """The accelerator to boot with and why; raises UsageError when KVM was demanded and does not work here."""
    if choice is AccelChoice.TCG:
        return Accel.TCG, "asked for"
    trial = try_kvm(paths, qemu=qemu)
    if trial.works:
        return Accel.KVM, trial.because
    if choice is AccelChoice.KVM:
        raise UsageError(f"--accel kvm: {trial.because}", hint="Use --accel auto; without KVM a boot takes minutes.")
    return Accel.TCG, trial.because


def try_kvm(paths: Paths, *, qemu: str, device: Path = Path("/dev/kvm")) -> KvmTrial:
    """The outcome of the trial: the remembered one of this boot of the host and this QEMU, or a new one (5 s at most)."""
    if not device.exists():
        return KvmTrial(works=False, because="no /dev/kvm")
    try:
        with device.open("r+b", buffering=0):
            pass
    except OSError as error:
        return KvmTrial(works=False, because=f"/dev/kvm: {error.strerror}")
    record = paths.cache / "kvm.json"
    key = {"schema": _SCHEMA, "boot": _boot_id(), "qemu": run([qemu, "--version"], timeout_s=10).output.split("\n")[0]}
    try:
        known = json.loads(record.read_text())
        if known["key"] == key:
            return KvmTrial(works=bool(known["works"]), because=str(known["because"]))
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no record, or not one of ours: try again
    trial = _try_once(qemu)
    paths.cache.mkdir(parents=True, exist_ok=True)
    write_whole(record, json.dumps({"key": key, "works": trial.works, "because": trial.because}), sync=False)
    return trial


def _try_once(qemu: str) -> KvmTrial:
    with tempfile.NamedTemporaryFile(prefix="bedplate-kvm-") as disk:
        disk.write(boot_sector())
        disk.flush()
        argv = [qemu, "-accel", "kvm", "-cpu", "host", "-machine", "q35", "-m", "64", "-nodefaults", "-no-user-config"]
        argv += ["-display", "none", "-device", "isa-debug-exit,iobase=0xf4,iosize=1"]
        argv += ["-drive", f"file={disk.name},format=raw,if=ide"]
        try:
            done = run(argv, timeout_s=_LIMIT_S, ok=range(-64, 256))
        except CommandTimeout:
            return KvmTrial(works=False, because=f"a small guest under KVM did not end in {_LIMIT_S:.0f} s")
    if done.status == _MAGIC_STATUS:
        return KvmTrial(works=True, because=f"a guest ran under KVM in {done.elapsed_s:.1f} s")
    said = last_lines(done.output, 2).splitlines()
    reason = next((line for line in said if "error" in line), said[-1] if said else f"exit status {done.status}")
    return KvmTrial(works=False, because=f"QEMU ended: {reason.removeprefix(f'{Path(qemu).name}: ')}")


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError as error:
        raise BedplateError(f"/proc/sys/kernel/random/boot_id: {error.strerror}", hint="Mount /proc.") from error
