"""Bundles of rows: signed, imported whole or not at all, named by locks; each refusal is seen, and changes nothing."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bedplate.act import signatures
from bedplate.act.bundles import hold_bundles, put_bundle
from bedplate.act.signatures import make_signing_key, read_public_key, sign_bytes, verify_bytes
from bedplate.catalog.bundle import parse_bundle, parse_trusted_keys, render_key, render_signature
from bedplate.catalog.drop_ins import RowFile, read_shipped
from bedplate.catalog.stack import STACK_DIRECTORY, parse_stack, read_stack
from bedplate.catalog.stack_lock import parse_lock
from bedplate.cli.main import main
from bedplate.errors import BedplateError, BusyError, DataError, PreflightError, ReadError, UsageError
from bedplate.flows import catalog
from bedplate.flows.catalog import (
    CatalogPlaces,
    find_places,
    import_bundle,
    list_bundles,
    remove_bundle,
    show_bundle,
    sign_bundle,
)
from bedplate.flows.fit import read_fit
from bedplate.flows.stack import StackRequest, resolve_stack
from bedplate.model.stack import StackConflict, StackRecord
from bedplate.report.catalog import render_change
from bedplate.report.stack import render_lock

pytestmark = pytest.mark.touches("spawn", why="openssl signs and verifies")

INVENTED = (Path(__file__).parents[1] / "stack/invented.toml").read_text().partition("schema = 1\n")[2]
ACCELERATOR = """
[[accelerator]]
id = "z900-sxm"
name = "Invented Z900 SXM"
pci = ["10de:fffe"]
device = "z900"
arch = "sm_700"
memory_gib = 512
bandwidth_gbs = 20000
tflops = { bf16 = 9000 }
source = "its data sheet"
checked = "one source"
date = "2026-11-30"
unverified = "all"
"""
MODEL = """
[[model]]
id = "acme-1b"
shape = { layers = 2, hidden = 64, heads = 4, kv_heads = 2, head_size = 16, intermediate = 128, vocabulary = 1000 }
source = "us"
checked = "by hand"
date = "2026-11-30"

[[model.checkpoint]]
precision = "bf16"
"""
ROW = 'checked = "document"\ndate = "2026-11-28"\nevidence = ["a page"]\n'


def bundle_text(sequence: int = 12, *, name: str = "acme", date: str = "2026-11-30", rows: str = INVENTED) -> str:
    return f'schema = 1\n\n[bundle]\nname = "{name}"\nsequence = {sequence}\ndate = "{date}"\nnote = "the Z900"\n{rows}'


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


def signed(text: str, key: Path) -> bytes:
    """The text with a signature that is right, whatever the text is."""
    return (text + render_signature(read_public_key(key), sign_bytes(text.encode(), key))).encode()


def tree(places: CatalogPlaces) -> dict[str, bytes]:
    root = places.keys.parent
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def imported(places: CatalogPlaces, tmp_path: Path, key: Path, text: str) -> Any:
    file = tmp_path / "bundle.toml"
    file.write_bytes(signed(text, key))
    return import_bundle(file, places)


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


def test_a_bundle_goes_from_its_publisher_into_a_lock(places: CatalogPlaces, tmp_path: Path, keys: dict[str, Path]) -> None:
    """Signed, imported, resolved with, named by the lock, read back; `fit` knows its accelerator and its model."""
    (tmp_path / "rows.toml").write_text(bundle_text(rows=INVENTED + ACCELERATOR + MODEL))
    made, public = sign_bundle(tmp_path / "rows.toml", keys["acme"], tmp_path / "acme-12.toml")
    assert public == render_key(read_public_key(keys["acme"]))
    change = import_bundle(tmp_path / "acme-12.toml", places)
    assert (change.bundle, change.replaced) == (made, None)
    assert {row.what for row in change.rows} == {"added"}
    assert ("device", "z900") in [(row.table, row.row) for row in change.rows]
    request = StackRequest(
        engines=("vllm ==0.33.0",),
        accelerators=("8x z900",),
        models=("acme-1b",),
        sources=("debian", "pypi", "invented"),
    )
    record = resolve_stack(request, drop_ins=places.drop_ins)
    assert isinstance(record, StackRecord)
    assert record.bundles == (made,)
    text = render_lock(record)
    assert f'[[bundle]]\nname = "acme"\nsequence = 12\ndate = "2026-11-30"\nsha256 = "{made.sha256}"' in text
    assert parse_lock(text, name="stack.lock").bundles == (made,)
    assert render_lock(parse_lock(text, name="stack.lock")) == text
    with pytest.raises(DataError, match="the lock was changed after it was made"):
        parse_lock(text.replace("sequence = 12", "sequence = 13"), name="stack.lock")
    report = read_fit("acme-1b", on="2xz900-sxm", engine="vllm", drop_ins=places.drop_ins)
    assert report.results[0].target.name == "Invented Z900 SXM" and report.holds
    assert read_stack(drop_ins=places.drop_ins).devices[-1].pci == ("10de:fffe", "10de:ffff")


def test_without_bundles_a_lock_names_none() -> None:
    record = resolve_stack(StackRequest(engines=("vllm",), accelerators=("h100",)), drop_ins=None)
    assert isinstance(record, StackRecord)
    assert record.bundles == () and "[[bundle]]" not in render_lock(record)


BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def respelt(bundle: bytes) -> bytes:
    """The same bytes of signature: the last character before "==" has four bits that do not count."""
    number = BASE64.index(bundle[-4:-3])
    return bundle[:-4] + BASE64[number ^ 1 : (number ^ 1) + 1] + bundle[-3:]


H100 = f'[[device]]\nid = "h100"\ntitle = "x"\n{ROW}'
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


def test_two_bundles_are_in_force_side_by_side(places: CatalogPlaces, tmp_path: Path, keys: dict[str, Path]) -> None:
    imported(places, tmp_path, keys["acme"], bundle_text(12))
    other = bundle_text(3, name="other", rows=MODEL)
    imported(places, tmp_path, keys["other"], other)
    assert [(found.bundle.name, found.bundle.sequence, found.doubt) for found in list_bundles(places)] == [
        ("acme", 12, ""),
        ("other", 3, ""),
    ]
    assert [bundle.name for bundle in read_stack(drop_ins=places.drop_ins).bundles] == ["acme", "other"]
    with pytest.raises(DataError) as refused:
        imported(places, tmp_path, keys["other"], bundle_text(4, name="other", rows=INVENTED))
    assert f"device z900: appears twice, in {places.bundles}/acme.toml:device[z900] and in" in refused.value.message
    assert "bundle.toml:device[z900]" in refused.value.message
    remove_bundle("acme", places)
    imported(places, tmp_path, keys["other"], bundle_text(4, name="other", rows=INVENTED))
    assert [found.bundle.sequence for found in list_bundles(places)] == [4]


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


def test_a_dry_run_changes_nothing(places: CatalogPlaces, tmp_path: Path, keys: dict[str, Path]) -> None:
    (tmp_path / "bundle.toml").write_bytes(signed(bundle_text(), keys["acme"]))
    before = tree(places)
    assert len(import_bundle(tmp_path / "bundle.toml", places, dry_run=True).rows) == 6
    assert tree(places) == before and not places.drop_ins.exists()


CALLS = ("open", "write", "fsync", "fchmod", "replace", "close")


def test_a_process_killed_at_any_moment_leaves_the_old_bundle_or_the_new_one(
    places: CatalogPlaces, tmp_path: Path, keys: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL before each system call of the write; what is left beside is no row, and is removed by the next import."""
    imported(places, tmp_path, keys["acme"], bundle_text(12))
    stored = places.bundles / "acme.toml"
    old, new = stored.read_bytes(), signed(bundle_text(13, rows=INVENTED + MODEL), keys["acme"])
    (tmp_path / "new.toml").write_bytes(new)
    monkeypatch.setattr(catalog, "verify_bytes", lambda *_, **__: None)  # no other program in the processes that are killed
    outcomes: list[bool] = []
    for number in range(1, 40):
        if _import_and_die(tmp_path / "new.toml", places, number):
            break
        assert stored.read_bytes() in (old, new)
        outcomes.append(stored.read_bytes() == new)
        assert [bundle.sequence for bundle in read_stack(drop_ins=places.drop_ins).bundles] == [13 if outcomes[-1] else 12]
        stored.write_bytes(old)
    else:
        pytest.fail("the import never ended")
    assert len(outcomes) >= 6 and outcomes == sorted(outcomes) and set(outcomes) == {False, True}
    assert stored.read_bytes() == new
    assert [path.name for path in places.bundles.iterdir()] == ["acme.toml"]


def _import_and_die(file: Path, places: CatalogPlaces, number: int) -> bool:
    """Import in a process that kills itself before its call `number` of the write; whether it lived."""
    child = os.fork()
    if child == 0:
        calls = 0

        def dying(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls == number:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **kwargs)

            return call

        def put_and_count(directory: Path, name: str, text: str) -> Path:
            for name_of_call in CALLS:
                setattr(os, name_of_call, dying(getattr(os, name_of_call)))
            return put_bundle(directory, name, text)

        vars(catalog)["put_bundle"] = put_and_count
        status = 1
        try:
            import_bundle(file, places)
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert status == 0 or os.WIFSIGNALED(status), status
    return status == 0


def test_two_imports_at_once_are_one_after_the_other(places: CatalogPlaces, tmp_path: Path, keys: dict[str, Path]) -> None:
    with hold_bundles(places.bundles), pytest.raises(BusyError, match="another bedplate process"):
        imported(places, tmp_path, keys["acme"], bundle_text())


def test_what_is_in_force_is_verified_again_by_list(places: CatalogPlaces, tmp_path: Path, keys: dict[str, Path]) -> None:
    imported(places, tmp_path, keys["acme"], bundle_text())
    stored = places.bundles / "acme.toml"
    whole = stored.read_text()
    stored.write_text(whole.replace("Invented Z900", "Invented Z901"))
    (listed,) = list_bundles(places)
    assert "the signature is not of this content" in listed.doubt
    stored.write_text("not toml")
    assert "not TOML" in show_bundle("acme", places).doubt
    with pytest.raises(DataError, match="not TOML"):
        read_stack(drop_ins=places.drop_ins)
    stored.write_text(whole)
    places.keys.unlink()
    assert "does not have" in show_bundle("acme", places).doubt
    stored.rename(places.bundles / "renamed.toml")
    with pytest.raises(DataError, match=r"is the bundle acme, expected the name acme\.toml"):
        read_stack(drop_ins=places.drop_ins)


def test_a_removal_says_what_it_leaves_broken(places: CatalogPlaces, tmp_path: Path, keys: dict[str, Path]) -> None:
    imported(places, tmp_path, keys["acme"], bundle_text(12))
    release = f'[[release]]\ncomponent = "cuda"\nversion = "99.0"\nsources = ["invented"]\n{ROW}'
    imported(places, tmp_path, keys["other"], bundle_text(1, name="other", rows=release))
    gone = remove_bundle("acme", places)
    assert gone.problems == ("release cuda 99.0 (invented): no source 'invented'",)
    assert "warning: the rows that stay do not load: release cuda 99.0" in render_change(gone, removed=True, dry_run=False)
    assert remove_bundle("other", places).problems == ()


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


def test_a_damaged_bundle_can_be_removed(places: CatalogPlaces) -> None:
    places.bundles.mkdir(parents=True)
    (places.bundles / "acme.toml").write_text("not toml")
    assert remove_bundle("acme", places).rows == ()
    assert list(places.bundles.iterdir()) == []
    for name in ("acme", "../../catalog", ""):
        with pytest.raises(UsageError, match="no bundle of this name"):
            remove_bundle(name, places)


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


def test_what_cannot_be_written_is_a_sentence(places: CatalogPlaces, tmp_path: Path, keys: dict[str, Path]) -> None:
    places.drop_ins.mkdir()
    places.bundles.write_text("a file in the way")
    with pytest.raises(BedplateError, match=r"bundles: (cannot write|cannot list)"):
        imported(places, tmp_path, keys["acme"], bundle_text())
    with pytest.raises(UsageError, match="none: is no directory"):
        catalog.make_publisher_key(tmp_path / "none/key.pem")


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


def test_a_stack_that_needs_a_bundle_is_a_no_without_it(
    places: CatalogPlaces, tmp_path: Path, keys: dict[str, Path]
) -> None:
    imported(places, tmp_path, keys["acme"], bundle_text())
    request = StackRequest(accelerators=("h100",), require=("nvidia-driver ==700.10",), sources=("debian", "pypi"))
    refused = resolve_stack(request, drop_ins=places.drop_ins)
    assert isinstance(refused, StackConflict)
    assert any("invented" in nearest.sentence for nearest in refused.nearest)


def test_a_comment_of_the_file_of_keys_ends_at_the_end_of_its_line(tmp_path: Path) -> None:
    """Not at a character that an editor shows as nothing: a key would stand in what looks like a comment."""
    key = render_key(bytes(32))
    text = f"# of Acme\u2028acme ed25519 {key}\n# \x0bacme ed25519 {key}\nother ed25519 {key}\r\n"
    assert [trusted.name for trusted in parse_trusted_keys(text, name="catalog.keys")] == ["other"]


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
