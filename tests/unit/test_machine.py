from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.luks_volume import make_copy, make_volume

from bedplate.act.paths import Paths
from bedplate.act.process import ProcessIdentity, is_alive, read_process
from bedplate.engines.client import parse_pieces
from bedplate.errors import BedplateError
from bedplate.flows.clean import find_doomed, size_on_disk
from bedplate.host.root.root import Root
from bedplate.host.system.booted import is_bedplate_system
from bedplate.host.system.system import parse_units, read_system
from bedplate.image.machine import disk_origin, last_meaningful_line
from bedplate.image.manifest import Image
from bedplate.image.qemu import BootOptions
from bedplate.image.recipe import Variant
from bedplate.interrupts import hold_signals
from bedplate.model.buildhost import Firmware
from bedplate.model.launch import Format, ModelRef
from bedplate.model.machine import Accel, BootMode
from bedplate.weights.index import render_index


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", ""),
        ("\r\n\r\n", ""),
        ("[   12.01] systemd[1]: Started x.service - The X.\r\n\r\n", "systemd[1]: Started x.service - The X."),
        ("\x1b[0;32m  OK  \x1b[0m] Reached target Basic System\r\n[\x1b", "OK  ] Reached target Basic System"),
        ("first\rsecond\r\n....\r\n", "second"),
        ("\x1b[2J\x1b[01;01H\x1b[=3hBdsDxe: loading Boot0002\r\n", "BdsDxe: loading Boot0002"),
        ("\x1b[!p\x1b]104\x07\x1b[?7h[\x1b[1;31mFAILED\x1b[0m] Failed to start x", "[FAILED] Failed to start x"),
        ("\x1bc\x1b[?7l\x1b[2J", ""),
        ("Booting from ROM...\r\n", "kernel and initrd"),
        ("[FAILED] Failed to start x.\r\nSee 'systemctl status x.service' for details.\r\n", "[FAILED] Failed to start x."),
    ],
)
def test_the_last_line_that_says_something(text: str, line: str) -> None:
    assert last_meaningful_line(text) == line


def chunk(text: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": {"content": text}}]}).encode() + b"\n"


def test_pieces_of_an_answer() -> None:
    lines = [b": keep-alive\n", chunk("Hel"), b"\n", b'data: {"choices":[{"delta":{"role":"assistant"}}]}\n', chunk("lo")]
    lines += [b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n', b'data: {"choices":[]}\n', b"data: [DONE]\n"]
    assert list(parse_pieces(iter(lines))) == ["Hel", "lo"]


@pytest.mark.parametrize(
    ("last", "message"),
    [
        (b'data: {"error": {"message": "out of memory"}}\n', "out of memory"),
        (b"data: {oops\n", "expected a chunk"),
        (b"", "is incomplete"),
    ],
)
def test_an_answer_that_breaks_off_is_an_error(last: bytes, message: str) -> None:
    pieces = parse_pieces(iter([chunk("Hel"), last]))
    assert next(pieces) == "Hel"
    with pytest.raises(BedplateError, match=message):
        next(pieces)


@pytest.mark.touches("machine", "spawn", why="the kernel's own record of this process and of a child")
def test_a_process_is_its_id_and_its_start() -> None:
    me = read_process(os.getpid())
    assert me is not None
    assert is_alive(me)
    assert not is_alive(ProcessIdentity(pid=me.pid, start_ticks=me.start_ticks - 1, boot_id=me.boot_id))
    assert not is_alive(ProcessIdentity(pid=me.pid, start_ticks=me.start_ticks, boot_id="another boot"))
    assert read_process(2**22 + 1) is None


def test_signals_held_back_are_delivered_at_the_end() -> None:
    seen = []
    with pytest.raises(KeyboardInterrupt), hold_signals():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        seen.append("the block ran to its end")
    assert seen
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_clean_takes_all_but_locks_and_keys(tmp_path: Path) -> None:
    paths = Paths(cache=tmp_path / "cache", state=tmp_path / "state")
    for name in ("cache/tools", "state/keys", "state/keys.partial-1", "state/images", "state/machine"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("cache/lock", "state/lock"):
        (tmp_path / name).write_text("")
    names = [path.name for path in find_doomed(paths, cache_only=False, keys=False)]
    assert names == ["tools", "images", "machine"]
    assert [path.name for path in find_doomed(paths, cache_only=True, keys=True)] == ["tools"]
    everything = [path.name for path in find_doomed(paths, cache_only=False, keys=True)]
    assert {"keys", "keys.partial-1"} <= set(everything)


def test_sizes_count_hard_links_once_and_holes_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(range(256)) * 64)
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    with (tmp_path / "sparse").open("wb") as sparse:
        sparse.truncate(1 << 30)
    assert 16384 <= size_on_disk(tmp_path) < 1 << 20


def test_the_index_of_the_models_disk_does_not_depend_on_order() -> None:
    def model(name: str) -> ModelRef:
        return ModelRef(
            name=name,
            sha256="ab",
            path="sha256/ab",
            format=Format.GGUF,
            size_bytes=1,
            architecture="llama",
            parameters=1,
            quantisation="F16",
            context_length=0,
            kv_bytes_per_token=0,
        )

    text = render_index([model("b"), model("a")])
    assert text == render_index([model("a"), model("b")])
    rows = json.loads(text)["models"]
    assert [ModelRef(**{**row, "format": Format(row["format"])}) for row in rows] == [model("a"), model("b")]


def test_the_disk_of_a_direct_boot_does_not_depend_on_firmware(tmp_path: Path) -> None:
    raw = tmp_path / "os.raw"
    raw.write_bytes(b"image")
    image = Image(
        version="1",
        variant=Variant.DEVELOPMENT,
        directory=tmp_path,
        raw=raw,
        uki=raw,
        kernel=raw,
        initrd=raw,
        cmdline="",
        manifest=raw,
    )
    firmware = Firmware(code="/usr/share/OVMF/OVMF_CODE_4M.fd", vars="/usr/share/OVMF/OVMF_VARS_4M.fd")
    direct = BootOptions(mode=BootMode.DIRECT, accel=Accel.TCG, port=8080)
    assert disk_origin(image, direct) == disk_origin(image, replace(direct, firmware=firmware))
    uefi = replace(direct, mode=BootMode.UEFI)
    assert disk_origin(image, replace(uefi, firmware=firmware)) != disk_origin(image, uefi)
    assert disk_origin(image, replace(direct, tpm=False)) != disk_origin(image, direct)
    before = disk_origin(image, direct)
    os.utime(raw, (1, 1))
    assert disk_origin(image, direct) != before


WITH_TPM = "encrypted, sealed to the TPM"
SEALED: dict[str, object] = {"0": {"type": "systemd-tpm2", "keyslots": ["0"]}}
RECOVERY: dict[str, object] = {"type": "systemd-recovery", "keyslots": ["1"]}
ENCRYPTED: dict[str, object] = {"bedplate-recovery": {"certificate": "ab", "key": "AAAA"}}
GUEST: dict[str, str | bytes | None] = {
    "usr/lib/os-release": 'ID=debian\nIMAGE_ID=bedplate\nIMAGE_VERSION="0.1~ab"\n',
    "usr/lib/bedplate/image.json": '{"version": "0.1~ab", "variant": "development"}',
    "proc/meminfo": "MemTotal: 2000000 kB\nMemAvailable: 1500000 kB\n",
    "proc/uptime": "61.5 100.0\n",
    "proc/sys/kernel/osrelease": "7.3.4-cloud\n",
    "proc/self/mountinfo": (
        "21 1 253:0 / / ro,relatime - erofs /dev/mapper/root ro\n"
        "22 21 0:20 / /etc rw - overlay etc rw\n"
        "40 21 253:1 / /var rw,noatime - ext4 /dev/mapper/varcrypt rw\n"
    ),
    "sys/dev/block/253:0/uevent": "MAJOR=253\nDEVNAME=dm-0\n",
    "sys/dev/block/253:1/uevent": "DEVNAME=dm-1\n",
    "sys/class/block/dm-0/dm/uuid": "CRYPT-VERITY-00-root\n",
    "sys/class/block/dm-1/dm/uuid": "CRYPT-LUKS2-00-varcrypt\n",
    "sys/class/block/dm-0/slaves/vda2/x": "",
    "sys/class/block/dm-0/slaves/vda3/x": "",
    "sys/class/block/vda2/uevent": "PARTNAME=bedplate_0.1~ab_verity\n",
    "sys/class/block/vda3/uevent": "PARTNAME=bedplate_0.1~ab\n",
    "sys/class/block/dm-1/slaves/vda8/x": "",
    "dev/vda8": make_volume(SEALED),
}


def make_guest(root: Path, changes: dict[str, str | bytes | None]) -> Root:
    for name, data in (GUEST | changes).items():
        if data is not None:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data.encode() if isinstance(data, str) else data)
    return Root(root)


@pytest.mark.parametrize(
    ("record", "image", "ours"),
    [
        ('{"version": "1"}', "bedplate", True),  # of an earlier build
        ('{"id": "bedplate"}', "bedplate", True),
        ('{"id": "acme"}', "acme", True),
        ('{"id": "acme"}', "bedplate", False),
        (None, "bedplate", False),
        ("[]", "bedplate", False),
        ("{", "bedplate", False),
    ],
)
def test_an_image_with_another_id_is_known_too(tmp_path: Path, record: str | None, image: str, ours: bool) -> None:
    changes: dict[str, str | bytes | None] = {
        "usr/lib/os-release": f'ID=debian\nIMAGE_ID="{image}"\n',
        "usr/lib/bedplate/image.json": record,
    }
    assert is_bedplate_system(make_guest(tmp_path, changes)) is ours


def test_a_guest_says_what_it_is(tmp_path: Path) -> None:
    root = make_guest(tmp_path, {})
    assert is_bedplate_system(root)
    facts = read_system(root)
    assert (facts.version, facts.variant, facts.kernel) == ("0.1~ab", "development", "7.3.4-cloud")
    assert facts.slot == "bedplate_0.1~ab"
    assert facts.verity
    assert facts.secure_boot is None
    assert facts.var == "encrypted, sealed to the TPM"
    assert facts.uptime_s == 61.5


@pytest.mark.parametrize(
    ("changes", "verity", "var"),
    [
        ({"sys/class/block/dm-0/dm/uuid": "LVM-x\n"}, False, "encrypted, sealed to the TPM"),
        ({"dev/vda8": None}, True, "encrypted"),
        ({"dev/vda8": "LUKS" + "\0" * 4092 + "{}\0"}, True, "encrypted"),
        ({"dev/vda8": make_volume({})}, True, "encrypted"),
        ({"dev/vda8": make_volume(SEALED | {"1": RECOVERY | ENCRYPTED})}, True, f"{WITH_TPM}, with a recovery key"),
        # A recovery key that somebody made by hand is encrypted to no certificate.
        ({"dev/vda8": make_volume(SEALED | {"1": RECOVERY})}, True, WITH_TPM),
        (
            {"dev/vda8": make_copy({}, sequence=3) + make_copy(SEALED, second=True)},
            True,
            f"{WITH_TPM}; of its header the first copy is older: its sequence number is 3, not 4",
        ),
        ({"sys/class/block/dm-1/dm/uuid": None}, True, "plain"),
        ({"proc/self/mountinfo": "1 0 253:0 / / ro - erofs r ro\n2 1 0:9 / /var rw - tmpfs t rw\n"}, True, "volatile"),
        ({"proc/self/mountinfo": "1 0 253:0 / / ro - erofs r ro\n"}, True, "read-only, part of the image"),
    ],
)
def test_what_is_not_there_is_not_claimed(
    tmp_path: Path, changes: dict[str, str | bytes | None], verity: bool, var: str
) -> None:
    facts = read_system(make_guest(tmp_path, changes))
    assert (facts.verity, facts.var) == (verity, var)


@pytest.mark.parametrize(("value", "expected"), [(b"\x06\0\0\0\x01", True), (b"\x06\0\0\0\x00", False), (b"", None)])
def test_secure_boot_is_the_last_byte_of_the_variable(tmp_path: Path, value: bytes, expected: bool | None) -> None:
    root = make_guest(tmp_path, {})
    variable = tmp_path / "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
    variable.parent.mkdir(parents=True)
    variable.write_bytes(value)
    assert read_system(root).secure_boot is expected


def test_a_build_host_is_no_bedplate_system(tmp_path: Path) -> None:
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "usr/lib/os-release").write_text("ID=debian\n")
    assert not is_bedplate_system(Root(tmp_path))


def test_units_are_read_from_systemctls_own_table() -> None:
    (unit,) = parse_units(
        '[{"unit": "x.service", "load": "loaded", "active": "failed", "sub": "failed", "description": ""}]'
    )
    assert (unit.name, unit.active, unit.sub) == ("x.service", "failed", "failed")
    assert parse_units("") == ()
