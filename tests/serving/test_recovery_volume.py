"""The recovery key end to end on a volume of its own: made, encrypted, taken off the disk, decrypted, and it opens.

Only systemd-cryptenroll, which wants a TPM, is played by a script over cryptsetup; the guest's test has the real one.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import bedplate
from bedplate.act.paths import Paths
from bedplate.act.run import run
from bedplate.errors import CommandError, UsageError
from bedplate.image.recovery import render_recovery
from bedplate.image.tools import tools_command

pytestmark = pytest.mark.build

KEY = "-".join(f"cbdefgh{letter}" for letter in "cbdefghi")
ENROL = f"""#!/bin/sh
# systemd-cryptenroll --unlock-tpm2-device=auto --recovery-key --wipe-slot=recovery DEVICE, as far as its caller sees it
for device; do :; done
here=$(dirname "$0")
number=$(cat "$here/count" 2>/dev/null || echo 0)
echo $((number + 1)) >"$here/count"
key={KEY.rpartition("-")[0]}-cbdefgh$(echo $number | tr 0123 cbde)
printf %s "$key" >"$here/new"
set -e
cryptsetup luksDump --dump-json-metadata "$device" | python3 -c '
import json, sys
for id, token in json.load(sys.stdin)["tokens"].items():
    if token["type"] == "systemd-recovery": print(id, *token["keyslots"])' >"$here/old"
fast="--pbkdf pbkdf2 --pbkdf-force-iterations 1000"
cryptsetup luksAddKey $fast --key-file "$here/first" --new-key-slot $((number + 1)) "$device" "$here/new"
[ -e "$here/keeps" ] && : >"$here/old" # systemd leaves a slot that two tokens name
while read -r token slot; do
    cryptsetup token remove --token-id "$token" "$device"
    cryptsetup luksKillSlot -q "$device" "$slot"
done <"$here/old"
echo '{{"type":"systemd-recovery","keyslots":["'$((number + 1))'"]}}' | cryptsetup token import "$device"
echo "A secret recovery key has been generated for this volume:" >&2
echo "$key"
rm "$here/new"
"""


class Place:
    """A directory that the tools tree sees, with a LUKS2 volume on a disk, and bedplate's own source."""

    def __init__(self, paths: Paths) -> None:
        self.paths, self.here = paths, paths.state / "recovery-test"
        shutil.rmtree(self.here, ignore_errors=True)
        self.here.mkdir(parents=True)
        shutil.copytree(
            Path(bedplate.__file__).parent, self.here / "source/bedplate", ignore=shutil.ignore_patterns("*.gguf")
        )
        self.volume = self.here / "volume"
        with self.volume.open("wb") as file:
            file.truncate(32 << 20)
        (self.here / "first").write_text("the key that the TPM has")
        (self.here / "systemd-cryptenroll").write_text(ENROL)
        (self.here / "systemd-cryptenroll").chmod(0o755)
        argv = ["cryptsetup", "luksFormat", "-q", "--type", "luks2", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"]
        self.run(*argv, "--key-file", str(self.here / "first"), str(self.volume))

    def run(self, *argv: str, ok: tuple[int, ...] = (0,)) -> str:
        env = {"BEDPLATE_PATH_PREFIX": str(self.here), "PYTHONPATH": str(self.here / "source")}
        return run(tools_command(self.paths, argv), timeout_s=300, env=env, ok=ok).output

    def certificate(self, name: str, *key: str) -> Path:
        out = self.here / f"{name}.crt"
        argv = ["openssl", "req", "-x509", "-newkey", *(key or ("rsa:2048",)), "-nodes", "-subj", f"/CN={name}/"]
        self.run(*argv, "-keyout", str(self.here / f"{name}.key"), "-out", str(out))
        return out

    def enrol(self, certificate: Path) -> str:
        (self.here / "recovery.json").write_text(render_recovery(self.paths, certificate))
        program = (
            "import sys, bedplate.host.system.var as var; from pathlib import Path;"
            "from bedplate.host.root.root import Root;"
            "from bedplate.act.recovery import ensure_recovery_key; var.RECOVERY = '/recovery.json';"
            "certificate = var.read_recovery_certificate(Root(Path(sys.argv[1])));"
            "print(ensure_recovery_key(Path(sys.argv[2]), certificate))"
        )
        return self.run("python3", "-c", program, str(self.here), str(self.volume)).strip()

    def opens_with(self, name: str) -> bool:
        """Whether what the private key of that name reads from the disk opens the volume."""
        blob, passphrase = self.here / "blob", self.here / "passphrase"
        passphrase.unlink(missing_ok=True)
        words = [sys.executable, "-m", "bedplate.cli.main", "var", "blob", str(self.volume), "--out", str(blob)]
        subprocess.run(words, check=True, capture_output=True, timeout=60, env=os.environ)
        options: list[str] = []
        for option in ("rsa_padding_mode:oaep", "rsa_oaep_md:sha256", "rsa_mgf1_md:sha256"):
            options += ["-pkeyopt", option]
        argv = ["openssl", "pkeyutl", "-decrypt", "-inkey", str(self.here / f"{name}.key"), "-in", str(blob)]
        self.run(*argv, "-out", str(passphrase), *options, ok=(0, 1))
        if not passphrase.exists() or not passphrase.read_text():
            return False
        self.run("cryptsetup", "open", "--test-passphrase", "--key-file", str(passphrase), str(self.volume))
        return True


@pytest.fixture
def place(built: Paths) -> Iterator[Place]:
    made = Place(built)
    yield made
    shutil.rmtree(made.here)


def test_the_owner_of_the_private_key_opens_the_volume_and_a_new_certificate_replaces_the_old(place: Place) -> None:
    owner, other = place.certificate("owner"), place.certificate("other", "rsa:3072")
    assert place.enrol(owner) == "True"
    assert place.opens_with("owner")
    assert not place.opens_with("other")
    before = place.volume.read_bytes()
    assert place.enrol(owner) == "False"
    assert place.volume.read_bytes() == before
    assert b"cbdefghc-cbdefghb" not in before  # no key in the clear
    assert place.enrol(other) == "True"
    assert place.opens_with("other")
    assert not place.opens_with("owner")
    metadata = json.loads(place.run("cryptsetup", "luksDump", "--dump-json-metadata", str(place.volume)))
    (token,) = metadata["tokens"].values()  # one: two for a key slot are a conflict to systemd-cryptenroll
    assert (token["type"], len(token["keyslots"])) == ("systemd-recovery", 1)
    assert len(metadata["keyslots"]) == 2


def test_a_key_of_before_that_stays_is_said_and_nothing_is_written(place: Place) -> None:
    """Its ciphertext would have been replaced, and the owner of the old certificate would have kept a way in, unseen."""
    owner, other = place.certificate("owner"), place.certificate("other", "rsa:3072")
    assert place.enrol(owner) == "True"
    (place.here / "keeps").touch()
    with pytest.raises(CommandError) as raised:
        place.enrol(other)
    assert "recovery keys in the slots 1, 2, expected only the new one" in raised.value.tail
    assert place.opens_with("owner")


def test_a_certificate_that_cannot_encrypt_is_refused_at_build(place: Place) -> None:
    elliptic = place.certificate("elliptic", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
    short = place.certificate("short", "rsa:1024")
    text = place.here / "text.crt"
    text.write_text("no certificate")
    for file, said in ((elliptic, "expected a certificate with an RSA key"), (short, "1024 bits"), (text, "openssl")):
        with pytest.raises(UsageError, match=said):
            render_recovery(place.paths, file)
