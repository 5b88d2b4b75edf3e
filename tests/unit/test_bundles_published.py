"""What a publisher of bundles is told, and the command from a key to a removal."""

from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path

import pytest
from tests.unit.bundle_cases import H100, INVENTED, bundle_text, imported, signed

from bedplate.act.signatures import make_signing_key, read_public_key, verify_bytes
from bedplate.catalog.bundle import parse_bundle, render_key
from bedplate.catalog.drop_ins import RowFile, read_shipped
from bedplate.catalog.stack import STACK_DIRECTORY, parse_stack, read_stack
from bedplate.cli.main import main
from bedplate.errors import DataError, ReadError, UsageError
from bedplate.flows.catalog import (
    CatalogPlaces,
    find_places,
    sign_bundle,
)

pytestmark = pytest.mark.touches("spawn", why="openssl signs and verifies")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Private keys: one that is trusted for bundles acme, one for bundles other, one that nobody trusts."""
    directory = tmp_path_factory.mktemp("keys")
    found = {name: directory / f"{name}.pem" for name in ("acme", "other", "stranger")}
    for path in found.values():
        make_signing_key(path)
    return found


@pytest.fixture
def places(tmp_path: Path, keys: dict[str, Path]) -> CatalogPlaces:
    """A machine that trusts two of the keys, and has nothing else."""
    found = find_places(tmp_path)
    found.keys.parent.mkdir(parents=True)
    lines = [f"{name} ed25519 {render_key(read_public_key(keys[name]))}  # a comment" for name in ("acme", "other")]
    found.keys.write_text("\n".join(["# who may sign what", "", *lines, ""]))
    return found


def test_the_signature_is_that_of_rfc_8032() -> None:
    """Section 7.1, TEST 2; another byte of message, signature or key is refused."""
    public = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
    signature = bytes.fromhex(
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    verify_bytes(b"\x72", signature, public, what="x")
    for message, other, key in (
        (b"\x73", signature, public),
        (b"\x72", bytes([signature[0] ^ 1]) + signature[1:], public),
        (b"\x72", signature, bytes([public[0] ^ 1]) + public[1:]),
        (b"\x72", signature[:-1], public),
    ):
        with pytest.raises(ReadError):
            verify_bytes(message, other, key, what="x")


@pytest.mark.parametrize("page", ["bundles.md", "stack-rows.md"])
def test_the_rows_of_the_pages_load(page: str) -> None:
    """What somebody copies from a page is what the loaders take."""
    (text,) = re.findall("(?s)```toml\n(.*?)```", (Path(__file__).parents[2] / "docs/how-to" / page).read_text())
    if page == "bundles.md":
        assert parse_bundle(text, name=page).head.sequence == 12
        rows = read_stack(drop_ins=None, bundles=[RowFile(name=page, text=text)])
    else:
        rows = parse_stack([*map(read_shipped, sorted(STACK_DIRECTORY.glob("*.toml"))), RowFile(name=page, text=text)])
    assert "z900" in [device.id for device in rows.devices]


def test_a_publisher_is_kept_from_mistakes(tmp_path: Path, keys: dict[str, Path]) -> None:
    rows, output = tmp_path / "rows.toml", tmp_path / "out.toml"
    rows.write_bytes(signed(bundle_text(), keys["acme"]))
    with pytest.raises(UsageError, match="has a signature already"):
        sign_bundle(rows, keys["acme"], output)
    rows.write_text(bundle_text(rows=H100))
    with pytest.raises(DataError, match="device h100: appears twice") as refused:
        sign_bundle(rows, keys["acme"], output)
    assert (refused.value.hint or "").startswith("Nothing was signed. Correct")
    rows.write_text(bundle_text(date="9999-01-01"))
    with pytest.raises(UsageError, match="has the date 9999-01-01, which is to come"):
        sign_bundle(rows, keys["acme"], output)
    rows.write_text(bundle_text())
    with pytest.raises(ReadError, match="is no private key"):
        sign_bundle(rows, rows, output)
    assert not output.exists()
    with pytest.raises(UsageError, match="is there already"):
        make_signing_key(keys["acme"])
    assert keys["acme"].stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "text",
    [
        "schema = 1\n[bundle\n",
        bundle_text().replace("schema = 1", "schema = 2"),
        bundle_text(name="No Name"),
        bundle_text().replace("\n", "\r\n"),
        bundle_text(rows=H100),
        bundle_text(rows=INVENTED.replace("pci", "pcj")),
    ],
)
def test_who_signs_corrects_the_file_and_who_imports_gets_it_again(
    text: str, places: CatalogPlaces, tmp_path: Path, keys: dict[str, Path]
) -> None:
    rows = tmp_path / "rows.toml"
    rows.write_bytes(text.encode())
    with pytest.raises(DataError) as refused:
        sign_bundle(rows, keys["acme"], tmp_path / "out.toml")
    assert refused.value.hint is not None
    assert refused.value.hint.startswith("Nothing was signed. Correct the file, and sign it again; ")
    assert "remove" not in refused.value.hint and "publishes" not in refused.value.hint
    with pytest.raises(DataError) as refused:
        imported(places, tmp_path, keys["acme"], text)
    assert refused.value.hint is not None and "whoever publishes it" in refused.value.hint.lower()


def test_the_command_makes_a_key_signs_imports_lists_shows_and_removes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*words: str | Path) -> tuple[int, str, str]:
        status = main(["catalog", *map(str, words)])
        done = capsys.readouterr()
        return status, done.out, done.err

    root, key, rows, bundle = (tmp_path / name for name in ("root", "key.pem", "rows.toml", "acme.toml"))
    rows.write_text(bundle_text())
    line = run("make-key", key)[1].replace("NAME", "acme")
    assert run("sign", rows, "--key", key, "--output", bundle)[0] == 0
    status, _, err = run("import", bundle, "--root", root)
    assert status == 1 and "catalog.keys does not have" in err and "docs/how-to/bundles.md" in err
    (root / "etc/bedplate").mkdir(parents=True)
    (root / "etc/bedplate/catalog.keys").write_text(line)
    status, out, _ = run("import", "--root", root, bundle, "--dry-run")
    assert status == 0 and "+ device z900\n" in out and "would import acme 12 of 2026-11-30: 6 added" in out
    assert run("list", "--root", root)[:2] == (0, "")
    assert "\nimported acme 12 of 2026-11-30: 6 added\n" in run("import", bundle, "--root", root)[1]
    assert run("import", bundle, "--root", root)[1] == "the Z900\nacme 12 of 2026-11-30 is in force already\n"
    status, out, _ = run("list", "--root", root, "--json")
    assert status == 0 and json.loads(out)["bundles"][0]["sequence"] == 12
    assert run("show", "acme", "--root", root)[1] == bundle.read_text()
    stored = root / "etc/bedplate/catalog.d/bundles/acme.toml"
    stored.write_text(stored.read_text().replace("the Z900", "the Z901"))
    status, out, err = run("list", "--root", root)
    assert status == 1 and "would not be imported now: " in out
    status, out, _ = run("remove", "acme", "--root", root, "--json")
    assert status == 0 and json.loads(out)["removed"] is True and not stored.exists()


def test_a_text_of_another_system_is_told_in_a_line_and_many_faults_in_a_few() -> None:
    for text, said in (
        (bundle_text().replace("\n", "\r\n"), "CR LF"),
        (bundle_text() + "# \u202e\n" * 5000, "4990 more lines"),
    ):
        with pytest.raises(DataError) as caught:
            parse_bundle(text, name="rows.toml")
        assert len(caught.value.problems) <= 11
        assert any(said in problem for problem in caught.value.problems)


def test_a_key_that_is_not_there_is_said_not_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match=r"none.pem: is not there"):
        read_public_key(tmp_path / "none.pem")
    with pytest.raises(UsageError, match=r"nowhere: is no directory"):
        make_signing_key(tmp_path / "nowhere/key.pem")


def test_a_full_disk_for_temporary_files_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="No space left") as caught:
        verify_bytes(b"x", bytes(64), bytes(32), what="a.toml")
    assert Path(str(caught.value.filename)).name == "message"
