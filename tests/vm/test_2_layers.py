"""Engines and their layer, in guests that start nothing else: with one model and with two, and layers that were changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedplate.image.manifest import Image, read_partitions
from tests.conftest import Bedplate
from tests.serving.tiny_gguf import write_tiny_model
from tests.vm.serving_guest import serving_guest

pytestmark = pytest.mark.vm

# Discoverable Partitions Specification, x86-64
ROOT_TYPE, SIGNATURE_TYPE = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709", "41092b05-9fc8-4523-994f-2def0408b176"
MOUNTED = "grep -c ' /run/bedplate/layer/' /proc/mounts"
# The command of the unit on a file, and whether that was mounted.
TRY = """
try_layer() {
    mkdir -p /run/tried
    command=$(sed -n 's|^ExecStart=||p' /usr/lib/systemd/system/bedplate-layer@.service)
    command=$(echo "$command" | sed "s|%f|$1|; s|/run/[^ ]*%i|/run/tried|")
    DM_DISABLE_UDEV=1 $command
    echo "mounted: $(grep -c ' /run/tried ' /proc/mounts)"
    [ ! -e /run/tried/usr ] || systemd-dissect --umount /run/tried
}
"""


@pytest.fixture(scope="module")
def engine(bedplate: Bedplate, image: Image) -> Path:
    return bedplate.engine_layer()


def make_model(directory: Path, says: str) -> Path:
    path = directory / f"{says}.gguf"
    write_tiny_model(path, embedding=64, layers=1, context=512, says=says)
    return path


def test_one_model_and_layers_that_were_changed(bedplate: Bedplate, image: Image, engine: Path, tmp_path: Path) -> None:
    """An engine runs in the verified layer; what our key has not signed, or is not what it signed, is not mounted."""
    models = [("one", make_model(tmp_path, "alpha"))]
    with serving_guest(bedplate, image, engine, models, tmp_path / "state") as guest:
        assert guest.ask("one", "hello") == "alphaalpha"
        assert guest.shell(f"{MOUNTED}; dmsetup table | grep -c -- '-verity: .* verity '").split() == ["1", "1"]
        assert (
            guest.shell("readlink /proc/$(systemctl show -P MainPID bedplate-engine@one)/exe").strip()
            == "/usr/bin/llama-server"
        )

        # Without engines the layer is not needed: its mount and its device go.
        guest.shell(
            "systemctl stop 'bedplate-engine@*'; until ! grep -q ' /run/bedplate/layer/' /proc/mounts; do sleep 0.2; done"
        )
        guest.shell("until ! dmsetup table | grep -q -- '-verity: '; do sleep 0.2; done")

        guest.shell(f"cat >/run/try <<'END'\n{TRY}\nEND\ncp /dev/vdb /run/layer.raw")
        assert "mounted: 1" in guest.shell(". /run/try; try_layer /run/layer.raw")
        starts = {partition.type: partition.offset_bytes for partition in read_partitions(engine)}
        signature = starts[SIGNATURE_TYPE]
        changes = {  # file: where, what is written there
            "signature": (signature + 300, b"!"),  # in the signature itself, behind two digests in hexadecimal
            "unsigned": (signature, bytes(64)),
            "block": (starts[ROOT_TYPE] + 1030, b"!"),  # in the superblock, which is read at the mount
        }
        for name, (offset, new) in changes.items():
            written = "".join(f"\\x{byte:02x}" for byte in new)
            said = guest.shell(
                f"cp /run/layer.raw /run/{name}.raw;"
                f" printf '{written}' | dd of=/run/{name}.raw bs=1 seek={offset} conv=notrunc status=none;"
                f" cmp /run/layer.raw /run/{name}.raw; . /run/try; try_layer /run/{name}.raw"
            )
            assert "differ" in said and "mounted: 0" in said, said

        # A layer that cannot be mounted says why, is tried again, and keeps its engines waiting, not failed.
        unit = "bedplate-layer@run-unsigned.raw.service"
        guest.shell(f"systemctl start --no-block {unit}")
        guest.shell(f"until [ $(journalctl -b -o cat -u {unit} | grep -c 'Failed to ') -ge 2 ]; do sleep 0.5; done")
        assert "activating" in guest.shell(f"systemctl show -P ActiveState {unit}")
        guest.shell(f"systemctl stop {unit}")

        guest.shell("bedplate serve prepare")
        assert guest.ask("one", "hello") == "alphaalpha"


def test_two_models_of_one_layer(bedplate: Bedplate, image: Image, engine: Path, tmp_path: Path) -> None:
    models = [("one", make_model(tmp_path, "alpha")), ("two", make_model(tmp_path, "beta"))]
    with serving_guest(bedplate, image, engine, models, tmp_path / "state") as guest:
        assert [guest.ask(name, "hello") for name, _ in models] == ["alphaalpha", "betabeta"]
        assert guest.shell(MOUNTED).strip() == "1"
        # One engine of two restarts in the layer that the other holds.
        guest.shell("systemctl restart bedplate-engine@one")
        assert [guest.ask(name, "hello") for name, _ in models] == ["alphaalpha", "betabeta"]
        assert guest.shell("systemctl show -P NRestarts bedplate-engine@one bedplate-engine@two").split() == ["0", "0"]
