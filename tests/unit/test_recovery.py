"""The recovery key of /var: its encryption, and the header of the volume that keeps it."""

from __future__ import annotations

import base64
import errno
import hashlib
import io
import json
from pathlib import Path

import pytest
from tests.unit.luks_volume import SIZE, make_copy, make_volume, with_checksum
from tests.unit.tree import make_root

from bedplate.act.oaep import encrypt_oaep, mask
from bedplate.act.recovery import find_blob
from bedplate.cli.main import main
from bedplate.errors import ReadError
from bedplate.host.root.root import Root
from bedplate.host.system.luks import Copy, is_luks, parse_luks_tokens, read_luks_header
from bedplate.host.system.var import find_var_volume, has_tpm, has_var_partition, read_policy, read_recovery_certificate
from bedplate.model.var import OnVarFailure

# Two Mersenne primes: an RSA key whose private half everybody can compute, which is all that a test needs.
P, Q, E = 2**2203 - 1, 2**1279 - 1, 65537
N = P * Q
D = pow(E, -1, (P - 1) * (Q - 1))


def decrypt(ciphertext: bytes) -> bytes:
    """RFC 8017, 7.1.2, written from the text once more and the other way round."""
    size = (N.bit_length() + 7) // 8
    encoded = pow(int.from_bytes(ciphertext, "big"), D, N).to_bytes(size, "big")
    assert encoded[0] == 0
    masked_seed, masked_block = encoded[1:33], encoded[33:]
    seed = bytes(a ^ b for a, b in zip(masked_seed, mask(masked_block, 32), strict=True))
    block = bytes(a ^ b for a, b in zip(masked_block, mask(seed, len(masked_block)), strict=True))
    assert block[:32] == hashlib.sha256(b"").digest()
    padding, _, message = block[32:].partition(b"\x01")
    assert padding == bytes(len(padding))
    return message


@pytest.mark.parametrize("message", [b"", b"k", b"cbdefghi-" * 8, b"\x00\x01" * 100])
def test_what_is_encrypted_is_what_the_private_key_reads(message: bytes) -> None:
    assert decrypt(encrypt_oaep(message, modulus=N, exponent=E, seed=bytes(range(32)))) == message


def test_the_same_key_under_another_seed_is_another_text() -> None:
    first, second = (encrypt_oaep(b"k", modulus=N, exponent=E, seed=bytes([fill]) * 32) for fill in (1, 2))
    assert first != second
    assert len(first) == len(second) == (N.bit_length() + 7) // 8


@pytest.mark.parametrize(("size", "seed"), [((N.bit_length() + 7) // 8 - 65, 32), (8, 31), (8, 0)])
def test_what_does_not_fit_is_refused(size: int, seed: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        encrypt_oaep(bytes(size), modulus=N, exponent=E, seed=bytes(seed))


def test_the_mask_is_the_one_of_the_standard() -> None:
    # MGF1-SHA256("bar", 50), a vector that implementations share (Wikipedia, "Mask generation function").
    expected = "382576a7841021cc28fc4c0948753fb8312090cea942ea4c4e735d10dc724b155f9f6069f289d61daca0cb814502ef04eae1"
    assert mask(b"bar", 50).hex() == expected


TOKENS = {
    "0": {"type": "systemd-tpm2", "keyslots": ["0"], "tpm2-blob": "AAA="},
    "1": {
        "type": "systemd-recovery",
        "keyslots": ["1"],
        "bedplate-recovery": {"certificate": "ab" * 32, "key": base64.b64encode(b"sealed").decode()},
    },
}


def on_disk(volume: bytes) -> io.BytesIO:
    """A disk on which the volume begins at byte 6."""
    return io.BytesIO(b"before" + volume)


def named(name: str) -> dict[str, object]:
    return {"0": {"type": name, "keyslots": ["0"]}}


def torn(copy: bytes) -> bytes:
    """The copy with another byte in its JSON area."""
    return copy[:9000] + b"\xff" + copy[9001:]


def test_tokens_of_a_header() -> None:
    header = read_luks_header(on_disk(make_volume(TOKENS)), offset=6, name="disk")
    assert (header.copy, header.problem, header.sequence) == (Copy.FIRST, "", 4)
    assert [(token.id, token.type, token.keyslots) for token in header.tokens] == [
        (0, "systemd-tpm2", ("0",)),
        (1, "systemd-recovery", ("1",)),
    ]
    assert find_blob(header.tokens, name="disk") == (b"sealed", "ab" * 32)


OLD, NEW = make_copy(named("old"), sequence=4), make_copy(named("new"), sequence=5)
OLD_2, NEW_2 = make_copy(named("old"), second=True, sequence=4), make_copy(named("new"), second=True, sequence=5)
READ: dict[str, tuple[bytes, Copy, str, str]] = {
    "equal": (OLD + OLD_2, Copy.FIRST, "old", ""),
    "first is newer": (NEW + OLD_2, Copy.FIRST, "new", "the second copy is older: its sequence number is 4, not 5"),
    "second is newer": (OLD + NEW_2, Copy.SECOND, "new", "the first copy is older: its sequence number is 4, not 5"),
    "first is wiped": (bytes(SIZE) + OLD_2, Copy.SECOND, "old", "the first copy is damaged: got b'\\x00"),
    "first is torn": (torn(OLD) + OLD_2, Copy.SECOND, "old", "the first copy is damaged: its checksum is wrong"),
    "first is newer and torn": (torn(NEW) + OLD_2, Copy.SECOND, "old", "the first copy is damaged: its checksum is wrong"),
    "second is newer and torn": (OLD + torn(NEW_2), Copy.FIRST, "old", "the second copy is damaged: its checksum is wrong"),
    "second is wiped": (OLD + bytes(SIZE), Copy.FIRST, "old", "the second copy is damaged: got b'\\x00"),
    "second is cut off": (OLD + NEW_2[:-1], Copy.FIRST, "old", "the second copy is damaged: it is cut off"),
    "no second": (OLD, Copy.FIRST, "old", "the second copy is damaged: got b''"),
    "first has no JSON": (make_copy([1]) + OLD_2, Copy.SECOND, "old", "the first copy is damaged: its JSON area"),
    "unknown checksum": (
        make_copy({}, algorithm="crc") + OLD_2,
        Copy.SECOND,
        "old",
        "the first copy is damaged: its checksum is made by 'crc'",
    ),
    "first says it lies elsewhere": (
        with_checksum(OLD[:256] + (4096).to_bytes(8, "big") + OLD[264:]) + OLD_2,
        Copy.SECOND,
        "old",
        "the first copy is damaged: its header belongs at 4096",
    ),
}


@pytest.mark.parametrize("name", READ)
def test_the_newest_copy_that_is_whole_is_read_and_named(name: str) -> None:
    volume, copy, token, problem = READ[name]
    header = read_luks_header(on_disk(volume), offset=6, name="disk")
    assert (header.copy, [row.type for row in header.tokens]) == (copy, [token])
    assert header.problem.startswith(problem)
    assert bool(header.problem) is bool(problem)


@pytest.mark.parametrize("size", [0x4000 << number for number in range(9)])
def test_without_the_first_copy_the_second_is_found_wherever_it_may_lie(size: int) -> None:
    volume = bytes(size) + make_copy(named("old"), second=True, size=size)
    header = read_luks_header(on_disk(volume), offset=6, name="disk")
    assert (header.copy, header.tokens[0].type) == (Copy.SECOND, "old")
    assert is_luks(on_disk(volume), offset=6)


def test_a_second_copy_at_another_place_than_it_says_is_none() -> None:
    volume = bytes(SIZE) + make_copy(named("old"), second=True, size=2 * SIZE)
    with pytest.raises(ReadError, match="its header belongs at 32768"):
        read_luks_header(on_disk(volume), offset=6, name="disk")


class BadSector(io.BytesIO):
    """A disk whose first sectors cannot be read."""

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() < SIZE:
            raise OSError(errno.EIO, "Input/output error")
        return super().read(size)


def test_a_first_copy_on_a_bad_sector_leaves_the_second() -> None:
    header = read_luks_header(BadSector(OLD + OLD_2), name="disk")
    assert (header.copy, header.problem) == (Copy.SECOND, "the first copy is damaged: Input/output error")
    assert is_luks(BadSector(OLD + OLD_2))


@pytest.mark.parametrize(
    "volume",
    [
        b"",
        OLD_2 + OLD,
        make_volume(TOKENS, version=1),
        make_volume(TOKENS, size=4096),
        make_volume(TOKENS, size=3 * SIZE),
        make_volume(TOKENS, size=1 << 40),
        make_volume([1]),
        make_volume({"x": {}}),
        make_volume({"0": {"type": "a"}}),
        make_volume({"0": 5}),
        torn(OLD) + torn(OLD_2),
        with_checksum(OLD[:4096] + b"[" * 12288),
    ],
)
def test_a_header_that_is_none_is_refused_in_a_sentence(volume: bytes) -> None:
    with pytest.raises(
        ReadError, match=r"disk: expected the header of a LUKS2 volume; the first copy: .*; the second copy: "
    ):
        read_luks_header(on_disk(volume), offset=6, name="disk")


@pytest.mark.parametrize(
    ("first", "copy", "problem"),
    [
        (make_copy(TOKENS), "first", ""),
        (bytes(SIZE), "second", "the first copy is damaged: "),
        (torn(make_copy(TOKENS)), "second", "the first copy is damaged: its checksum is wrong"),
        (make_copy({}, sequence=3), "second", "the first copy is older: "),
    ],
)
def test_the_command_reads_the_copy_that_is_whole_and_says_which(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], first: bytes, copy: str, problem: str
) -> None:
    disk, out = tmp_path / "disk", tmp_path / "blob"
    disk.write_bytes(first + make_copy(TOKENS, second=True))
    assert main(["var", "blob", str(disk), "--out", str(out), "--json"]) == 0
    printed = capsys.readouterr()
    record = json.loads(printed.out)
    assert out.read_bytes() == b"sealed"
    assert (record["header_copy"], record["offset_bytes"]) == (copy, 0)
    assert record["header_problem"].startswith(problem)
    assert bool(record["header_problem"]) is bool(problem) is (f"; the {copy} copy was read" in printed.err)


@pytest.mark.parametrize("row", [{}, {"certificate": "a", "key": "!"}, {"certificate": "a"}, {"key": 5}, 5, "word", ["ab"]])
def test_a_recovery_key_that_is_damaged_is_told(row: object) -> None:
    token = {"type": "systemd-recovery", "keyslots": ["1"], "bedplate-recovery": row}
    area = json.dumps({"tokens": {"0": token}}).encode()
    with pytest.raises(ReadError, match="damaged"):
        find_blob(parse_luks_tokens(area), name="disk")


def test_a_disk_without_a_recovery_key_says_how_it_gets_one() -> None:
    with pytest.raises(ReadError, match="no recovery key"):
        find_blob(parse_luks_tokens(b'{"tokens":{}}'), name="disk")


def test_what_the_image_and_the_machine_say(tmp_path: Path) -> None:
    root = make_root(
        tmp_path,
        {
            "usr/lib/bedplate/image.json": '{"on_var_failure": "reboot"}',
            "usr/lib/bedplate/recovery.json": '{"modulus": "c5", "exponent": 3, "fingerprint": "ab"}',
            "sys/class/block/dm-0/dm/name": "root\n",
            "sys/class/block/dm-1/dm/name": "varcrypt\n",
            "sys/class/block/dm-1/slaves/vda9/x": "",
            "sys/class/block/vda9/uevent": "PARTNAME=bedplate-var\n",
            "sys/class/tpmrm/tpmrm0/dev": "1\n",
        },
    )
    assert read_policy(root) is OnVarFailure.REBOOT
    certificate = read_recovery_certificate(root)
    assert certificate is not None
    assert (certificate.modulus, certificate.exponent) == (0xC5, 3)
    assert find_var_volume(root) == tmp_path / "dev/vda9"
    assert has_tpm(root)
    assert has_var_partition(root)
    empty = Root(tmp_path / "usr")
    assert read_policy(empty) is OnVarFailure.SERVE
    assert (read_recovery_certificate(empty), find_var_volume(empty)) == (None, None)
    assert not has_tpm(empty)
