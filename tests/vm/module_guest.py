"""A guest that loads kernel modules and says what became of each: a kernel of Debian, a static busybox, and the modules.

It boots directly, or as a signed UKI under OVMF with Secure Boot. Debian's snakeoil variable store has one certificate in
PK, KEK and db, and its key is public (package ovmf): it is the owner's key of these tests.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bedplate.act.lock import hold_cache
from bedplate.act.paths import Paths
from bedplate.act.run import run
from bedplate.image.packages import Request, ensure_packages, pool
from bedplate.image.tools import Tools, tools_command
from tests.conftest import BOOT_S
from tests.unit.test_lock import Notes

SNAKEOIL_KEY, SNAKEOIL_CERTIFICATE = "/usr/share/ovmf/PkKek-1-snakeoil.key", "/usr/share/ovmf/PkKek-1-snakeoil.pem"
SNAKEOIL_VARS = Path("/usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd")
SECURE_CODE = Path("/usr/share/OVMF/OVMF_CODE_4M.secboot.fd")
_PASSPHRASE = "pass:snakeoil"  # stated in the package's README
_INIT = """\
#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t securityfs security /sys/kernel/security
echo "BP lockdown $($b cat /sys/kernel/security/lockdown)"
for file in /modules/*.ko; do
    said=$($b insmod "$file" 2>&1)
    echo "BP module ${file##*/} $? $said"
done
$b dmesg | while read -r line; do echo "BP log $line"; done
echo "BP end"
$b poweroff -f
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What a guest said: of each module insmod's status (0: it is in the kernel) and message; and the kernel's log."""

    lockdown: str
    modules: dict[str, tuple[int, str]]
    log: str


class ModuleGuest:
    """Guests of one kernel; `directory` lies below the cache, so that the tools see it."""

    def __init__(self, paths: Paths, tools: Tools, directory: Path, kernel: str) -> None:
        self.paths, self.directory = paths, directory
        directory.mkdir(parents=True)
        names = (f"linux-binary-{kernel}", "busybox-static")
        request = Request(
            suite="trixie",
            packages=names,
            kernel=None,
            accept_expired_release=False,
            architecture="amd64",
            closure=False,
        )
        with hold_cache(paths, Notes(), what="a test's kernel"):
            lock = ensure_packages(paths, tools, request, directory / "lock.json", Notes())
        for package in lock.packages:
            run(tools_command(paths, ["dpkg-deb", "-x", pool(paths) / package.file, directory / "tree"]), timeout_s=300)
        (self.kernel,) = (directory / "tree").glob("**/vmlinuz*")
        (self.busybox,) = (directory / "tree").glob("**/bin/busybox")

    def boot(self, modules: Mapping[str, bytes], *, append: str = "") -> Loaded:
        """Boot the kernel without firmware's Secure Boot, with `append` on its command line."""
        initrd = self._make_initrd(modules)
        words = ["-kernel", os.fspath(self.kernel), "-initrd", os.fspath(initrd)]
        return self._run(["-machine", "q35", *words, "-append", f"console=ttyS0 loglevel=4 {append}".strip()])

    def boot_secure(self, modules: Mapping[str, bytes], key: Path, certificate: Path) -> Loaded:
        """Boot a UKI signed by the key, whose certificate is in the firmware's db."""
        initrd = self._make_initrd(modules)
        esp, variables = self.directory / "esp", self.directory / "vars.fd"
        uki = esp / "EFI/BOOT/BOOTX64.EFI"
        uki.parent.mkdir(parents=True, exist_ok=True)
        argv: list[str | os.PathLike[str]] = ["ukify", "build", "--linux", self.kernel, "--initrd", initrd]
        argv += ["--cmdline", "console=ttyS0 loglevel=4", "--signtool", "systemd-sbsign", "--no-sign-kernel"]
        argv += ["--secureboot-private-key", key, "--secureboot-certificate", certificate, "--output", uki]
        run(tools_command(self.paths, argv), timeout_s=300, env={"SOURCE_DATE_EPOCH": "1767225600"})
        shutil.copyfile(SNAKEOIL_VARS, variables)
        words = ["-machine", "q35,smm=on", "-global", "driver=cfi.pflash01,property=secure,value=on"]
        words += ["-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={SECURE_CODE}"]
        words += ["-drive", f"if=pflash,unit=1,format=raw,file={variables}"]
        words += [
            "-drive",
            f"if=none,id=esp,format=raw,file=fat:rw:{esp}",
            "-device",
            "virtio-blk-pci,drive=esp,bootindex=1",
        ]
        return self._run(words)

    def _make_initrd(self, modules: Mapping[str, bytes]) -> Path:
        tree = self.directory / "initrd"
        shutil.rmtree(tree, ignore_errors=True)
        for name in ("bin", "dev", "proc", "sys", "modules"):
            (tree / name).mkdir(parents=True)
        shutil.copyfile(self.busybox, tree / "bin/busybox")
        (tree / "bin/busybox").chmod(0o755)
        (tree / "init").write_text(_INIT)
        (tree / "init").chmod(0o755)
        for name, content in modules.items():
            (tree / "modules" / f"{name}.ko").write_bytes(content)
        script = 'cd "$1" && find . | cpio --quiet -o -H newc | gzip -1 >../initrd.gz'
        run(tools_command(self.paths, ["sh", "-euc", script, "sh", tree]), timeout_s=300)
        return self.directory / "initrd.gz"

    def _run(self, words: list[str]) -> Loaded:
        serial = self.directory / "serial.log"
        serial.unlink(missing_ok=True)
        argv = ["qemu-system-x86_64", "-nodefaults", "-display", "none", "-accel", "tcg", "-cpu", "max,la57=off", "-m", "1G"]
        run([*argv, *words, "-serial", f"file:{serial}", "-no-reboot"], timeout_s=BOOT_S)
        return parse_serial(serial.read_text(errors="replace"))


def parse_serial(text: str) -> Loaded:
    """The lines that begin with BP; raises AssertionError with what the console said last when the guest did not end."""
    lines = [found[1] for line in text.splitlines() if (found := re.search(r"BP (.*)", line.rstrip()))]
    assert lines[-1:] == ["end"], text[-3000:]
    modules = {
        found[1]: (int(found[2]), found[3])
        for line in lines
        if (found := re.fullmatch(r"module (\S+)\.ko (\d+) ?(.*)", line))
    }
    lockdown = next(line.removeprefix("lockdown ") for line in lines if line.startswith("lockdown "))
    log = "\n".join(line.removeprefix("log ") for line in lines if line.startswith("log "))
    return Loaded(lockdown=lockdown, modules=modules, log=log)


def take_snakeoil_key(paths: Paths) -> None:
    """Make the snakeoil key the owner's of a state directory, before any key is made there."""
    paths.keys.mkdir(parents=True, mode=0o700)
    given = paths.keys / "given.key"
    shutil.copyfile(SNAKEOIL_KEY, given)
    argv: list[str | os.PathLike[str]] = [
        "openssl",
        "rsa",
        "-in",
        given,
        "-passin",
        _PASSPHRASE,
        "-out",
        paths.keys / "owner.key",
    ]
    run(tools_command(paths, argv), timeout_s=60)
    given.unlink()
    shutil.copyfile(SNAKEOIL_CERTIFICATE, paths.keys / "owner.crt")
    for suffix in ("key", "crt"):
        shutil.copyfile(paths.keys / f"owner.{suffix}", paths.keys / f"pcr.{suffix}")


def sign_as_stranger(paths: Paths, module: bytes, directory: Path) -> bytes:
    """An unsigned module with the signature of a key that nobody knows, as the kernel's sign-file would append it."""
    directory.mkdir()
    key, certificate, body = directory / "key.pem", directory / "crt.pem", directory / "module"
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650", "-subj", "/CN=a stranger/"]
    run(tools_command(paths, [*request, "-keyout", key, "-out", certificate]), timeout_s=120)
    body.write_bytes(module)
    argv: list[str | os.PathLike[str]] = ["openssl", "cms", "-sign", "-binary", "-noattr", "-nocerts", "-nosmimecap"]
    argv += [
        "-md",
        "sha256",
        "-in",
        body,
        "-signer",
        certificate,
        "-inkey",
        key,
        "-outform",
        "DER",
        "-out",
        directory / "p7s",
    ]
    run(tools_command(paths, argv), timeout_s=120)
    signature = (directory / "p7s").read_bytes()
    header = bytes([0, 0, 2, 0, 0, 0, 0, 0]) + len(signature).to_bytes(4, "big")  # 2: PKEY_ID_PKCS7
    return module + signature + header + b"~Module signature appended~\n"
