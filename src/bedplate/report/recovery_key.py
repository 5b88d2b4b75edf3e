"""What to do with the encrypted recovery key of a disk."""

from __future__ import annotations

import shlex


def render_recovery(*, disk: str, out: str, certificate: str, offset_bytes: int, size_bytes: int) -> str:
    """Commands that decrypt the key in the file `out` and open /var, which lies at an offset on the disk; ends with "\\n".

    certificate: SHA-256 of the certificate that the key is encrypted to. Names are quoted for a shell.
    """
    file, where = shlex.quote(out), f"--offset {offset_bytes} --sizelimit {size_bytes} {shlex.quote(disk)}"
    return (
        f"{out}: the recovery key of {disk}, encrypted to the certificate with the SHA-256\n"
        f"{certificate}\n\nWith its private key:\n\n"
        f"  openssl pkeyutl -decrypt -inkey recovery.key -in {file} -out passphrase \\\n"
        "      -pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256 -pkeyopt rsa_mgf1_md:sha256\n"
        f"  losetup --find --show --read-only {where}    # prints the device\n"
        "  cryptsetup open --readonly --key-file passphrase /dev/loopN var && mount -o ro,noload /dev/mapper/var /mnt\n"
    )
