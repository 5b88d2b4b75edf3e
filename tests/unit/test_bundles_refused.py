"""Bundles that are refused: each fault is seen and named, and changes nothing."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.bundle_cases import H100, INVENTED, MODEL, ROW, bundle_text, imported, signed, tree

from bedplate.act import signatures
from bedplate.act.signatures import make_signing_key, read_public_key
from bedplate.catalog.bundle import parse_trusted_keys, render_key
from bedplate.errors import BedplateError, DataError, PreflightError, ReadError, UsageError
from bedplate.flows.catalog import (
    CatalogPlaces,
    find_places,
    import_bundle,
    remove_bundle,
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


BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def respelt(bundle: bytes) -> bytes:
    """The same bytes of signature: the last character before "==" has four bits that do not count."""
    number = BASE64.index(bundle[-4:-3])
    return bundle[:-4] + BASE64[number ^ 1 : (number ^ 1) + 1] + bundle[-3:]


REFUSALS: dict[str, tuple[Callable[[dict[str, Path]], bytes], str]] = {
    "unsigned": (lambda _: bundle_text().encode(), "is not signed: its last line has no signature"),
    "empty": (lambda _: b"", "is not signed"),
    "cut before the signature": (lambda keys: signed(bundle_text(), keys["acme"])[:900], "is not signed"),
    "cut in the signature": (lambda keys: signed(bundle_text(), keys["acme"])[:-9], "its signature is damaged"),
    "without its last line end": (lambda keys: signed(bundle_text(), keys["acme"])[:-1], "its signature is damaged"),
    "with a signature in a second form of base64": (
        lambda keys: respelt(signed(bundle_text(), keys["acme"])),
        "its signature is damaged",
    ),
    "longer than what was signed": (lambda keys: signed(bundle_text(), keys["acme"]) + b"\n", "is not signed"),
    "line ends of another system": (
        lambda keys: signed(bundle_text(), keys["acme"]).replace(b"\n", b"\r\n"),
        "its signature is damaged",
    ),
    "changed": (
        lambda keys: signed(bundle_text(), keys["acme"]).replace(b"700.10", b"700.11"),
        "the signature is not of this content",
    ),
    "signature of another bundle": (
        lambda keys: bundle_text(13).encode() + signed(bundle_text(12), keys["acme"]).splitlines(keepends=True)[-1],
        "the signature is not of this content",
    ),
    "unknown key": (lambda keys: signed(bundle_text(), keys["stranger"]), "which .*catalog.keys does not have"),
    "key of another name": (lambda keys: signed(bundle_text(), keys["other"]), "trusts its key for other only"),
    "not TOML": (lambda keys: signed("schema = \n", keys["acme"]), "not TOML"),
    "not UTF-8": (lambda _: b"\xff" + bundle_text().encode(), "is not UTF-8"),
    "too big": (lambda _: b"#" * (5 << 20), "is larger than 4 MiB"),
    "without a head": (lambda keys: signed(f"schema = 1\n{INVENTED}", keys["acme"]), r"expected a table \[bundle\]"),
    "without rows": (lambda keys: signed(bundle_text(rows=""), keys["acme"]), "has no rows"),
    "another form": (
        lambda keys: signed(bundle_text().replace("schema = 1", "schema = 2"), keys["acme"]),
        "schema: got 2, expected 1",
    ),
    "a key that is not known": (
        lambda keys: signed(bundle_text().replace("note =", "nota ="), keys["acme"]),
        "bundle.nota: unknown key; did you mean 'note'",
    ),
    "a table that is not known": (
        lambda keys: signed(bundle_text(rows="[[gadget]]\nid = 1\n"), keys["acme"]),
        "gadget: unknown key",
    ),
    "a name that leads outside": (
        lambda keys: signed(bundle_text(name="../../evil"), keys["acme"]),
        r"bundle.name: got '../../evil', expected at most 40 lower-case letters",
    ),
    "a file that leads outside": (
        lambda keys: signed(
            bundle_text(rows=INVENTED.replace('version = "700.10"\n', 'version = "700.10"\nfile = "../x"\n', 1)),
            keys["acme"],
        ),
        r"file: got '../x', expected the name of a file",
    ),
    "no sequence": (lambda keys: signed(bundle_text(0), keys["acme"]), "sequence: got 0, expected 1"),
    "no date": (lambda keys: signed(bundle_text(date="today"), keys["acme"]), "date: got 'today'"),
    "a row that ships": (
        lambda keys: signed(bundle_text(rows=H100), keys["acme"]),
        r"device h100: appears twice, in devices.toml:device\[h100\] and in .*bundle.toml:device\[h100\]",
    ),
    "a row that its loader refuses": (
        lambda keys: signed(bundle_text(rows=MODEL.replace("layers = 2", "layers = 0")), keys["acme"]),
        "layers: got 0, expected at least 1",
    ),
    "an escape in a row": (
        lambda keys: signed(bundle_text(rows=INVENTED.replace("Invented Z900", "\\u001b[31m")), keys["acme"]),
        "expected one without control characters",
    ),
    "an escape in a comment": (
        lambda keys: signed(bundle_text() + "# \u202e hidden\n", keys["acme"]),
        "has a character that cannot be printed",
    ),
    "more releases than can be": (
        lambda keys: signed(
            bundle_text(
                rows='[[release]]\ncomponent = "cuda"\nsources = ["pypi"]\n'
                f"versions = {json.dumps([str(number) for number in range(30_000)])}\n{ROW}"
            ),
            keys["acme"],
        ),
        "makes 30000 releases",
    ),
}


@pytest.mark.parametrize("fault", REFUSALS)
def test_a_bundle_with_a_fault_is_refused_and_changes_nothing(
    fault: str, places: CatalogPlaces, tmp_path: Path, keys: dict[str, Path]
) -> None:
    make, said = REFUSALS[fault]
    (tmp_path / "bundle.toml").write_bytes(make(keys))
    before = tree(places)
    with pytest.raises(BedplateError) as refused:
        import_bundle(tmp_path / "bundle.toml", places)
    assert re.search(said, refused.value.message), refused.value.message
    assert tree(places) == before


def test_only_a_newer_bundle_replaces_what_is_in_force(places: CatalogPlaces, tmp_path: Path, keys: dict[str, Path]) -> None:
    key = keys["acme"]
    imported(places, tmp_path, key, bundle_text(12))
    before = tree(places)
    for text, said in (
        (bundle_text(11), "is acme 11 of 2026-11-30, older than acme 12"),
        (bundle_text(12, rows=INVENTED + MODEL), "with other content than the one of that number"),
        (bundle_text(13, date="2026-11-29"), "dated before acme 12"),
    ):
        with pytest.raises(UsageError, match=said):
            imported(places, tmp_path, key, text)
        assert tree(places) == before
    assert imported(places, tmp_path, key, bundle_text(12)).rows == ()
    assert tree(places) == before
    changed = INVENTED.replace("Invented Z900", "Invented Z900 again").partition("[[module]]")[0]
    change = imported(places, tmp_path, key, bundle_text(13, rows=changed + MODEL))
    assert change.replaced is not None and change.replaced.sequence == 12
    assert {(row.what, row.table, row.row) for row in change.rows} == {
        ("changed", "device", "z900"),
        ("removed", "module", "invented-700.10-builds-7.3.4"),
        ("added", "model", "acme-1b"),
    }
    gone = remove_bundle("acme", places)
    assert {row.what for row in gone.rows} == {"removed"} and len(gone.rows) == 6
    assert imported(places, tmp_path, key, bundle_text(11)).replaced is None  # a removal forgets the sequence


def test_a_file_of_the_owner_and_a_bundle_may_not_contradict(
    places: CatalogPlaces, tmp_path: Path, keys: dict[str, Path]
) -> None:
    places.drop_ins.mkdir()
    (places.drop_ins / "site.toml").write_text(f"schema = 1\n{INVENTED}")
    with pytest.raises(DataError, match="appears twice") as refused:
        imported(places, tmp_path, keys["acme"], bundle_text())
    assert "site.toml:device[z900]" in refused.value.message and (refused.value.hint or "").startswith(
        "Nothing was imported"
    )


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        ("acme ed25519 AAAA\n", 0o644, r"catalog.keys:1: got 'acme ed25519 AAAA', expected NAME ed25519 KEY"),
        ("acme rsa KEY\nA B\n", 0o644, r"catalog.keys:2: got 'A B'"),
        ("", 0o664, r"has the mode 0664, so others than its owner could add a key"),
        ("", 0o646, r"has the mode 0646"),
    ],
)
def test_a_file_of_keys_with_a_fault_trusts_nobody(
    text: str, mode: int, said: str, places: CatalogPlaces, tmp_path: Path, keys: dict[str, Path]
) -> None:
    places.keys.write_text(text or places.keys.read_text())
    places.keys.chmod(mode)
    with pytest.raises((ReadError, DataError), match=said):
        imported(places, tmp_path, keys["acme"], bundle_text())
    assert not places.bundles.exists()


def test_a_pipe_in_place_of_the_keys_is_not_waited_for(places: CatalogPlaces, tmp_path: Path, keys: dict[str, Path]) -> None:
    places.keys.unlink()
    os.mkfifo(places.keys, 0o600)
    with pytest.raises(ReadError, match="is a pipe, expected a regular file"):
        imported(places, tmp_path, keys["acme"], bundle_text())


def test_without_openssl_nothing_is_imported(
    places: CatalogPlaces, tmp_path: Path, keys: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bundle.toml").write_bytes(signed(bundle_text(), keys["acme"]))
    monkeypatch.setattr(signatures, "find_program", lambda _: None)
    with pytest.raises(PreflightError, match="openssl is not installed"):
        import_bundle(tmp_path / "bundle.toml", places)
    assert not places.bundles.exists()


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exit 0", "openssl does not say whether the signature is right"),  # silent success is none
        ("echo Unknown option: -rawin >&2; exit 1", "openssl does not say whether"),
        ("echo Signature Verified Successfully; exit 1", "openssl does not say whether"),
        ("echo Signature Verification Failure; exit 0", "the signature is not of this content"),
        ("exit 2", "openssl: ended with status 2"),
    ],
)
def test_what_openssl_does_not_say_is_no_yes(
    script: str,
    said: str,
    places: CatalogPlaces,
    tmp_path: Path,
    keys: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "bundle.toml").write_bytes(signed(bundle_text(), keys["acme"]))
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/openssl"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("BEDPLATE_PATH_PREFIX", str(tmp_path / "bin"))
    with pytest.raises(BedplateError, match=said):
        import_bundle(tmp_path / "bundle.toml", places)
    assert not places.bundles.exists()


def test_a_comment_of_the_file_of_keys_ends_at_the_end_of_its_line(tmp_path: Path) -> None:
    """Not at a character that an editor shows as nothing: a key would stand in what looks like a comment."""
    key = render_key(bytes(32))
    text = f"# of Acme\u2028acme ed25519 {key}\n# \x0bacme ed25519 {key}\nother ed25519 {key}\r\n"
    assert [trusted.name for trusted in parse_trusted_keys(text, name="catalog.keys")] == ["other"]
