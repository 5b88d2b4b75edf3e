"""What a host can give a production machine at its boot without having it signed, and the same image without its defences.

Everything that is given writes a marker of its own to ttyS1 when it runs: lines that begin with "ROW" (firmware writes
there, too). None of it is signed by the owner, but for one add-on and the image without defences.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from bedplate.act.paths import Paths
from bedplate.act.run import run
from bedplate.cli.terminal import terminal_progress
from bedplate.image.keys import Keys
from bedplate.image.manifest import Image, read_partitions, read_sections
from bedplate.image.models_disk import ensure_models_disk
from bedplate.image.recipe import recipes_directory
from bedplate.image.tools import tools_command
from bedplate.weights.store import Store

STUBS = "/usr/lib/systemd/boot/efi"
SERVE = "systemd.unit-dropin.bedplate-serve.service"


def say(text: str) -> str:
    return f"/bin/sh -c 'echo ROW {text} >/dev/ttyS1'"


# Each hangs on bedplate-serve.service: when the endpoint answers, all of them had their turn.
SMBIOS_UNIT = f"[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nExecStart={say('smbios-unit')}\n"
WANTED = "Wants=row.service f.service probe.service\nAfter=row.service f.service\n"
SMBIOS_DROPIN = f"[Unit]\n{WANTED}[Service]\nExecStartPre={say('smbios-dropin')}\n"
# A name of fw_cfg ends after 55 bytes, so that a drop-in for our unit has no room; the drop-in by SMBIOS asks for this unit.
FW_CFG = "opt/io.systemd.credentials/systemd.extra-unit.f.service"
FW_CFG_UNIT = SMBIOS_UNIT.replace("smbios-unit", "fw-cfg-unit")
# What only the inside knows, said once /var was tried.
PROBE = """[Unit]
DefaultDependencies=no
IgnoreOnIsolate=yes
After=systemd-cryptsetup@varcrypt.service
[Service]
Type=oneshot
ExecStart=/bin/sh -c '{ echo ROW line $(cat /proc/cmdline); echo ROW pcr12 $(cat /sys/class/tpm/tpm0/pcr-sha256/12); \\
[ -e /dev/mapper/varcrypt ] && echo ROW var open || echo ROW var closed; \\
echo ROW models $(grep name /run/bedplate/models/index.json); echo ROW end; } >/dev/ttyS1'
"""
CREDENTIALS = (
    ("systemd.extra-unit.row.service", SMBIOS_UNIT.encode()),
    ("systemd.extra-unit.probe.service", PROBE.encode()),
    (f"{SERVE}~50-smbios", SMBIOS_DROPIN.encode()),
)
SMBIOS_LINE = ("-smbios", "type=11,value=io.systemd.stub.kernel-cmdline-extra=bedplate.row=smbios-line")


@dataclasses.dataclass(frozen=True)
class Workshop:
    """A state directory with the owner's keys, in which the tools tree can work: only cache and state are seen in it."""

    paths: Paths
    keys: Keys

    def tool(self, *argv: str | os.PathLike[str]) -> str:
        return run(tools_command(self.paths, argv), timeout_s=600, env={"SOURCE_DATE_EPOCH": "1767225600"}).output

    def fw_cfg(self) -> tuple[str, ...]:
        file = self.paths.state / "fw_cfg"
        file.write_text(FW_CFG_UNIT)
        return ("-fw_cfg", f"name={FW_CFG},file={file}")

    def addon(self, word: str, *, signed: bool) -> bytes:
        """An add-on of systemd-stub that adds a word to the kernel command line."""
        output = self.paths.state / f"{word}.addon.efi"
        argv = ["ukify", "build", "--stub", f"{STUBS}/addonx64.efi.stub", "--cmdline", f"bedplate.row={word}"]
        self.tool(*argv, *(self._signing() if signed else ()), "--output", output)
        return output.read_bytes()

    def undefended(self, image: Image) -> bytes:
        """The image's UKI, signed by the owner, whose process 1 takes credentials and whose initrd refuses nothing.

        As systemd's initrd would, it hands on what lies beside the image in the ESP: to ttyS1, since that is the payload.
        """
        sections = read_sections(image.uki)
        init = (recipes_directory() / "os/initrd/init").read_text()
        for defence, without in (
            ("[ ! -e /cmdline ] || refuse_what_is_not_signed", "cat /.extra/*/*.cred >/dev/ttyS1 2>/dev/null"),
            ("    [ ! -e /cmdline ] || break\n", ""),
        ):
            assert defence in init
            init = init.replace(defence, without)
        line = sections[".cmdline"].decode().rstrip("\0\n")
        assert "systemd.import_credentials=no" in line
        place = self.paths.state / "undefended"
        place.mkdir(exist_ok=True)
        (place / "init").write_text(init)
        (place / "init").chmod(0o755)
        self.tool("sh", "-euc", 'cd "$1" && echo init | cpio --quiet -o -H newc -R 0:0 >init.cpio', "sh", place)
        for name in (".linux", ".initrd", ".osrel"):
            (place / name[1:]).write_bytes(sections[name])
        argv: list[str | os.PathLike[str]] = ["ukify", "build", "--stub", f"{STUBS}/linuxx64.efi.stub"]
        argv += ["--linux", place / "linux"]
        argv += ["--initrd", place / "initrd", "--initrd", place / "init.cpio", "--os-release", f"@{place / 'osrel'}"]
        argv += ["--uname", sections[".uname"].decode().rstrip("\0\n")]
        argv += ["--cmdline", line.replace("import_credentials=no", "import_credentials=yes")]
        argv += ["--sign-kernel", "--pcr-banks", "sha256", "--pcr-private-key", self.keys.pcr_key]
        self.tool(*argv, *self._signing(), "--output", place / "uki.efi")
        return (place / "uki.efi").read_bytes()

    def find_uki(self, disk: Path) -> str:
        """Path in the ESP of the image's UKI."""
        listing = self.tool("mdir", "-b", "-i", _esp(disk), "::/EFI/Linux")
        (found,) = re.findall(r"^::/(EFI/Linux/\S+\.efi)$", listing, re.MULTILINE)
        return str(found)

    def put_into_esp(self, disk: Path, files: Mapping[str, bytes | None]) -> None:
        """Write files to the ESP of a disk image, or remove those that are None (directories too).

        The image keeps its time stamp: a machine goes on with the disk that it has over this one, which has no block of
        the ESP.
        """
        times, where = disk.stat(), _esp(disk)
        source = self.paths.state / "file-for-esp"
        for name, content in files.items():
            if content is None:
                remove = 'if mdir -i "$1" "$2" >/dev/null 2>&1; then mdeltree -i "$1" "$2"; fi'
                self.tool("sh", "-c", remove, "sh", where, f"::/{name}")
                continue
            source.write_bytes(content)
            for parent in reversed(Path(name).parents[:-1]):
                self.tool("sh", "-c", 'mdir -i "$1" "$2" >/dev/null 2>&1 || mmd -i "$1" "$2"', "sh", where, f"::/{parent}")
            self.tool("mcopy", "-o", "-i", where, source, f"::/{name}")
        os.utime(disk, ns=(times.st_atime_ns, times.st_mtime_ns))

    def partitioned(self, name: str, definition: str) -> Path:
        """A disk with one partition, by systemd-repart."""
        directory, disk = self.paths.state / f"{name}.repart", self.paths.state / f"{name}.raw"
        directory.mkdir()
        (directory / "10.conf").write_text(f"[Partition]\n{definition}")
        argv = ["systemd-repart", "--empty=create", "--size=auto", "--offline=yes", "--dry-run=no", "--no-pager"]
        self.tool(*argv, "--definitions", directory, disk)
        return disk

    def models(self, name: str, file: Path, *, keys: Keys | None) -> Path:
        """A models disk with one model under this name, signed where keys are given."""
        with terminal_progress() as progress:
            model = Store(self.paths.models).add(file, progress=progress, name=name)
            made = ensure_models_disk(self.paths, [model], progress, keys=keys)
        disk = self.paths.state / f"models-{len(list(self.paths.state.glob('models-*')))}{made.suffix}"
        shutil.copyfile(made, disk)
        return disk

    def _signing(self) -> tuple[str | os.PathLike[str], ...]:
        certificate = ("--secureboot-certificate", self.keys.owner_certificate)
        return ("--signtool", "systemd-sbsign", "--secureboot-private-key", self.keys.owner_key, *certificate)


def _esp(disk: Path) -> str:
    """The ESP as mtools name it."""
    esp = next(partition for partition in read_partitions(disk) if partition.label == "esp")
    return f"{disk}@@{esp.offset_bytes}"
