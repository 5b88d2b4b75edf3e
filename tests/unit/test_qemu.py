from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import pytest

from bedplate.image.kvm import boot_sector
from bedplate.image.manifest import Image
from bedplate.image.qemu import BootOptions, overlay_argv, qemu_argv, swtpm_argv
from bedplate.image.recipe import Variant
from bedplate.model.buildhost import Firmware
from bedplate.model.machine import Accel, BootMode

D = Path("/images/a,b")
IMAGE = Image(
    version="0.1",
    variant=Variant.DEVELOPMENT,
    directory=D,
    raw=D / "os.raw",
    uki=D / "os.efi",
    kernel=D / "os.vmlinuz",
    initrd=D / "os.initrd",
    cmdline="console=ttyS0 quiet",
    manifest=D / "manifest.json",
)
DIRECT = BootOptions(mode=BootMode.DIRECT, accel=Accel.TCG, port=8080)
FIRMWARE = Firmware(code="/usr/share/OVMF/CODE,4M.fd", vars="/usr/share/OVMF/VARS.fd")
SECURE = replace(DIRECT, mode=BootMode.SECURE, firmware=FIRMWARE)


def values(argv: tuple[str, ...], option: str) -> list[str]:
    return [argv[index + 1] for index, word in enumerate(argv) if word == option]


def test_a_direct_boot_takes_kernel_initrd_and_command_line_from_the_image() -> None:
    argv = qemu_argv("/usr/bin/qemu", IMAGE, replace(DIRECT, extra_cmdline="systemd.log_level=debug"))
    assert values(argv, "-kernel") == ["/images/a,b/os.vmlinuz"]
    assert values(argv, "-append") == ["console=ttyS0 quiet systemd.log_level=debug"]
    assert values(argv, "-machine")[0].startswith("q35,smm=off")
    assert not any("pflash" in word for word in argv)
    assert values(argv, "-accel") == ["tcg,thread=single,tb-size=1024"]
    assert values(argv, "-smp") == ["2"]
    one = qemu_argv("qemu", IMAGE, replace(DIRECT, cpus=1))
    assert values(one, "-accel") == ["tcg,thread=multi,tb-size=1024"]
    assert values(one, "-smp") == ["1,maxcpus=2"]
    assert values(qemu_argv("qemu", IMAGE, replace(DIRECT, cpus=1, accel=Accel.KVM)), "-smp") == ["1"]
    timed = qemu_argv("qemu", IMAGE, replace(DIRECT, parallel=True, extra_argv=("-device", "edu")))
    assert values(timed, "-accel") == ["tcg,thread=multi,tb-size=1024"]
    assert timed[-2:] == ("-device", "edu")


def test_secure_boot_locks_the_flash_behind_smm_and_takes_no_other_command_line() -> None:
    argv = qemu_argv("qemu", IMAGE, SECURE)
    assert "smm=on" in values(argv, "-machine")[0]
    assert "driver=cfi.pflash01,property=secure,value=on" in values(argv, "-global")
    assert "if=pflash,unit=0,format=raw,readonly=on,file=/usr/share/OVMF/CODE,,4M.fd" in values(argv, "-drive")
    assert "if=pflash,unit=1,format=raw,file=vars.fd" in values(argv, "-drive")
    assert "-kernel" not in argv
    with pytest.raises(ValueError, match="signed UKI"):
        qemu_argv("qemu", IMAGE, replace(SECURE, extra_cmdline="init=/bin/sh"))
    with pytest.raises(ValueError, match="firmware"):
        qemu_argv("qemu", IMAGE, replace(SECURE, firmware=None))


def test_a_uefi_boot_needs_no_smm() -> None:
    argv = qemu_argv("qemu", IMAGE, replace(SECURE, mode=BootMode.UEFI))
    assert "smm=off" in values(argv, "-machine")[0]
    assert "-global" not in argv


def test_only_the_root_disk_can_be_written_and_the_others_say_what_they_are() -> None:
    argv = qemu_argv("qemu", IMAGE, replace(DIRECT, engine="/e/llamacpp.raw", models="/m.erofs"))
    drives = dict(zip(("root", "engine", "models"), values(argv, "-drive"), strict=True))
    assert "readonly" not in drives["root"]
    assert drives["engine"].endswith(",readonly=on")
    assert drives["models"].endswith(",readonly=on")
    devices = " ".join(values(argv, "-device"))
    assert "serial=bp-llamacpp" in devices
    assert "serial=bp-models" in devices


def test_only_the_forwarded_port_of_this_host_leads_in_and_nothing_out() -> None:
    assert values(qemu_argv("qemu", IMAGE, DIRECT), "-netdev") == [
        "user,id=net,restrict=on,ipv6=off,hostfwd=tcp:127.0.0.1:8080-:8080"
    ]
    assert "restrict=off" in values(qemu_argv("qemu", IMAGE, replace(DIRECT, open_network=True)), "-netdev")[0]


def test_credentials_travel_as_base64() -> None:
    argv = qemu_argv("qemu", IMAGE, replace(DIRECT, credentials=(("a.b", b"x,y\n"),), debug_exit=True))
    encoded = base64.b64encode(b"x,y\n").decode()
    assert values(argv, "-smbios") == [f"type=11,value=io.systemd.credential.binary:a.b={encoded}"]
    assert "isa-debug-exit,iobase=0xf4,iosize=1" in values(argv, "-device")
    with pytest.raises(ValueError, match="do not fit"):
        qemu_argv("qemu", IMAGE, replace(DIRECT, credentials=(("big", bytes(200_000)),)))


def test_no_socket_has_a_path_that_could_be_too_long() -> None:
    argv = (*qemu_argv("qemu", IMAGE, DIRECT), *swtpm_argv("swtpm"))
    sockets = [word for word in argv if ".sock" in word]
    assert len(sockets) == 5
    assert all("/" not in word for word in sockets)


def test_without_a_tpm_there_is_none() -> None:
    assert "tpm" not in " ".join(qemu_argv("qemu", IMAGE, replace(DIRECT, tpm=False)))


def test_the_overlay_lies_over_the_image() -> None:
    argv = overlay_argv("qemu-img", IMAGE)
    assert argv[-2] == "overlay.qcow2"
    assert argv[argv.index("-b") + 1] == "/images/a,b/os.raw"


def test_the_boot_sector_of_the_trial_is_one() -> None:
    disk = boot_sector()
    assert disk[510:512] == b"\x55\xaa"
    assert len(disk) == 1024 * 1024
    # The far jump into 64-bit code and the GDT's place: both are written into the code as numbers.
    assert disk[0x66:0x6B] == bytes.fromhex("ea6b7c0800")
    assert disk[0xA8:0xB0] == bytes.fromhex("00000000009a2000")
    assert disk[0xB0:0xB6] == bytes.fromhex("0f00a07c0000")
