"""Bundles of rows: signed, imported whole or not at all, named by locks, and in force side by side."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.bundle_cases import INVENTED, MODEL, ROW, bundle_text, imported, signed, tree

from bedplate.act.bundles import hold_bundles, put_bundle
from bedplate.act.signatures import make_signing_key, read_public_key
from bedplate.catalog.bundle import render_key
from bedplate.catalog.stack import read_stack
from bedplate.catalog.stack_lock import parse_lock
from bedplate.errors import BedplateError, BusyError, DataError, UsageError
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


def test_a_damaged_bundle_can_be_removed(places: CatalogPlaces) -> None:
    places.bundles.mkdir(parents=True)
    (places.bundles / "acme.toml").write_text("not toml")
    assert remove_bundle("acme", places).rows == ()
    assert list(places.bundles.iterdir()) == []
    for name in ("acme", "../../catalog", ""):
        with pytest.raises(UsageError, match="no bundle of this name"):
            remove_bundle(name, places)


def test_what_cannot_be_written_is_a_sentence(places: CatalogPlaces, tmp_path: Path, keys: dict[str, Path]) -> None:
    places.drop_ins.mkdir()
    places.bundles.write_text("a file in the way")
    with pytest.raises(BedplateError, match=r"bundles: (cannot write|cannot list)"):
        imported(places, tmp_path, keys["acme"], bundle_text())
    with pytest.raises(UsageError, match="none: is no directory"):
        catalog.make_publisher_key(tmp_path / "none/key.pem")


def test_a_stack_that_needs_a_bundle_is_a_no_without_it(
    places: CatalogPlaces, tmp_path: Path, keys: dict[str, Path]
) -> None:
    imported(places, tmp_path, keys["acme"], bundle_text())
    request = StackRequest(accelerators=("h100",), require=("nvidia-driver ==700.10",), sources=("debian", "pypi"))
    refused = resolve_stack(request, drop_ins=places.drop_ins)
    assert isinstance(refused, StackConflict)
    assert any("invented" in nearest.sentence for nearest in refused.nearest)
