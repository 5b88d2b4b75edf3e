"""Look into what was built, with the tools tree's programs: files of a root, and by whose key a thing is signed."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
from pathlib import Path

from bedplate.act.paths import Paths
from bedplate.act.run import run
from bedplate.errors import CommandError
from bedplate.image.manifest import Partition, read_partitions
from bedplate.image.tools import tools_command


class Inside:
    """The inside of disks; directory, below the cache, is where files are put so that the tools see them."""

    def __init__(self, paths: Paths, directory: Path) -> None:
        self.paths, self.directory = paths, directory
        directory.mkdir()

    def tool(self, *argv: str | os.PathLike[str]) -> str:
        return run(tools_command(self.paths, argv), timeout_s=300).output

    def accepts(self, *argv: str | os.PathLike[str]) -> bool:
        try:
            self.tool(*argv)
        except CommandError as error:
            assert error.status in (1, 2, 4), error
            return False
        return True

    def write(self, name: str, content: bytes) -> Path:
        (self.directory / name).write_bytes(content)
        return self.directory / name

    def extract_root(self, disk: Path) -> Path:
        """The files of the EROFS root of a disk, in a directory that is replaced."""
        image = self.write("root.erofs", read_partition(disk, "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"))
        target = self.directory / "root"
        shutil.rmtree(target, ignore_errors=True)
        self.tool("fsck.erofs", f"--extract={target}", image)
        return target

    def is_signed_image(self, efi: Path, certificate: Path) -> bool:
        """Whether the Authenticode signature of a PE file is by the key of the certificate."""
        copy = self.write("image.efi", efi.read_bytes())
        return self.accepts("sbverify", "--cert", certificate, copy)

    def is_signed_root(self, disk: Path, certificate: Path) -> bool:
        """Whether the root hash of a disk's verity partition is signed by the key of the certificate."""
        text = read_partition(disk, "41092b05-9fc8-4523-994f-2def0408b176").rstrip(b"\0")
        record = json.loads(text)
        content = self.write("roothash", record["rootHash"].encode())
        signature = self.write("roothash.p7s", base64.b64decode(record["signature"]))
        argv: list[str | os.PathLike[str]] = [
            "openssl",
            "smime",
            "-verify",
            "-inform",
            "DER",
            "-in",
            signature,
            "-content",
            content,
            "-binary",
        ]
        return self.accepts(*argv, "-nointern", "-certfile", certificate, "-noverify", "-out", "/dev/null")

    def is_pcr_policy_signed(self, signatures: bytes, certificate: Path) -> bool:
        """Whether each PCR policy of a UKI's .pcrsig section is signed by the key of the certificate, and says so."""
        public = self.write("pcr.pem", self.tool("openssl", "x509", "-in", certificate, "-noout", "-pubkey").encode())
        key = self.directory / "pcr.der"  # PKCS#1, as systemd's pubkey_fingerprint has it
        self.tool("openssl", "rsa", "-pubin", "-in", public, "-RSAPublicKey_out", "-outform", "DER", "-out", key)
        fingerprint = hashlib.sha256(key.read_bytes()).hexdigest()
        policies = json.loads(signatures.rstrip(b"\0"))["sha256"]
        assert policies
        for policy in policies:
            signature = self.write("policy.sig", base64.b64decode(policy["sig"]))
            content = self.write("policy", bytes.fromhex(policy["pol"]))
            if policy["pkfp"] != fingerprint or not self.accepts(
                "openssl", "dgst", "-sha256", "-verify", public, "-signature", signature, content
            ):
                return False
        return True

    def read_esp_file(self, disk: Path, name: str) -> Path:
        """A copy of a file of the disk's EFI system partition."""
        esp = find_partition(disk, "c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
        copy = self.directory / Path(name).name
        copy.unlink(missing_ok=True)
        self.tool("mcopy", "-n", "-i", f"{disk}@@{esp.offset_bytes}", f"::{name}", copy)
        return copy

    def der(self, certificate: Path) -> bytes:
        copy = self.directory / "certificate.der"
        self.tool("openssl", "x509", "-in", certificate, "-outform", "DER", "-out", copy)
        return copy.read_bytes()


def find_partition(disk: Path, kind: str) -> Partition:
    """The one partition of a type. Types: UAPI group, Discoverable Partitions Specification (x86-64)."""
    (found,) = (partition for partition in read_partitions(disk) if partition.type == kind)
    return found


def read_partition(disk: Path, kind: str) -> bytes:
    partition = find_partition(disk, kind)
    with disk.open("rb") as handle:
        handle.seek(partition.offset_bytes)
        return handle.read(partition.size_bytes)
