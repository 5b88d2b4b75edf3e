"""What production's initrd refuses to start with, by its own function run on made-up files."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

INIT = Path(__file__).parents[2] / "image/os/initrd/init"
HASH = "0123456789abcdef" * 4
SIGNED = f"roothash={HASH} console=ttyS0 quiet"
ZERO = "0" * 64


def refusal(root: Path, line: str, *, extra: tuple[str, ...] = (), pcr12: str | None = ZERO) -> str:
    """What the initrd says when it refuses; empty when it goes on."""
    (root / "cmdline").write_text("console=ttyS0 quiet\n")
    (root / ".extra").mkdir()
    for name in ("tpm2-pcr-signature.json", "tpm2-pcr-public-key.pem", "os-release", *extra):
        (root / ".extra" / name).parent.mkdir(exist_ok=True)
        (root / ".extra" / name).write_text("")
    if pcr12 is not None:
        (root / "sys/class/tpm/tpm0/pcr-sha256").mkdir(parents=True)
        (root / "sys/class/tpm/tpm0/pcr-sha256/12").write_text(f"{pcr12}\n")
    text = INIT.read_text()
    functions = "".join(
        re.search(rf"^{name}\(\) \{{.*?^\}}\n", text, re.MULTILINE | re.DOTALL)[0]  # type: ignore[index]
        for name in ("option", "refuse_what_is_not_signed")
    )
    for place in ("/cmdline", "/.extra/", "/sys/class/"):
        functions = functions.replace(f" {place}", f" {root}{place}")
    functions = functions.replace("#/.extra/}", f"#{root}/.extra/}}").replace("| /.extra/", f"| {root}/.extra/")
    script = f'set -u\nfail() {{ echo "$*"; exit 1; }}\n{functions}\ncmdline=$1\nroothash=$(option roothash)\n'
    done = subprocess.run(
        ["sh", "-c", f"{script}refuse_what_is_not_signed", "sh", line], capture_output=True, text=True, timeout=60, cwd=root
    )
    assert done.stderr == ""
    assert (done.returncode == 0) == (done.stdout == "")
    return done.stdout.strip()


@pytest.mark.parametrize("pcr12", [ZERO, None])
def test_the_signed_image_alone_starts(tmp_path: Path, pcr12: str | None) -> None:
    assert refusal(tmp_path, SIGNED, pcr12=pcr12) == ""


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (f"{SIGNED} init=/bin/sh", "init=/bin/sh"),
        (f"{SIGNED} systemd.import_credentials=yes a=b", "systemd.import_credentials=yes a=b"),
        (f"{SIGNED} roothash={'f' * 64}", f"roothash={'f' * 64}"),
        (f"roothash={'f' * 64} {SIGNED}", f"roothash={HASH}"),
        (f"{SIGNED} quiet", f"{SIGNED} quiet"),  # nothing new in it: the whole line is said
        (f"roothash={HASH} console=ttyS0", f"roothash={HASH} console=ttyS0"),
        (f"{SIGNED} *", "*"),  # a word, and not the names of files
        ("", "the kernel command line is not the signed one:"),
    ],
)
def test_any_other_command_line_is_refused_and_the_words_are_said(tmp_path: Path, line: str, told: str) -> None:
    said = refusal(tmp_path, line)
    assert said.startswith("the kernel command line is not the signed one:")
    assert said.endswith(told)


def test_files_beside_the_image_in_the_esp_are_refused_by_name(tmp_path: Path) -> None:
    said = refusal(tmp_path, f"{SIGNED} x=1", extra=("credentials/a.cred", "global_credentials/b.cred", "sysext/c.raw"))
    assert said == (
        "the kernel command line is not the signed one: x=1; not part of the signed image: credentials/a.cred;"
        " not part of the signed image: global_credentials/b.cred; not part of the signed image: sysext/c.raw"
    )


def test_whatever_else_was_measured_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, SIGNED, pcr12=ZERO[:-1] + "1").startswith("PCR 12 is not zero")
