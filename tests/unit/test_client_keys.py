"""Keys of clients: their file, the maps that HAProxy reads, and the verbs that change them, without HAProxy."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.test_lock import Notes

from bedplate.catalog.client_keys import parse_client_keys, render_client_keys
from bedplate.errors import BedplateError, DataError, UsageError
from bedplate.flows import ca
from bedplate.flows.front import read_front_setting, write_front
from bedplate.flows.key import KeyRequest, KeyStore, add_key, list_keys, revoke_key, rotate_key
from bedplate.front.keys import KeyRules, render_key_maps, render_key_rules, render_length_rules, render_visible
from bedplate.host.root.root import Root
from bedplate.model.client_key import MACHINE_KEYS, ClientKey, ClientKeyFile, merge_keys
from bedplate.model.machine_config import LimitsConfig

NOW = 1_800_000_000
A_KEY = ClientKey(id="one", sha256="a" * 64, created_s=NOW)

KEYS = st.builds(
    ClientKey,
    id=st.from_regex(r"[a-z0-9][a-z0-9-]{1,31}", fullmatch=True),
    sha256=st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
    models=st.lists(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,20}", fullmatch=True), max_size=3).map(tuple),
    requests_per_minute=st.none() | st.integers(0, 1_000_000),
    concurrency=st.none() | st.integers(0, 1_000_000),
    max_tokens=st.none() | st.integers(0, 1_000_000),
    created_s=st.integers(0, NOW),
    expires_s=st.integers(0, NOW),
    note=st.from_regex(r"[ -~]{0,40}", fullmatch=True),
)


@given(st.lists(KEYS, max_size=5, unique_by=(lambda key: key.id, lambda key: key.sha256)))
def test_what_is_written_is_read_back(keys: list[ClientKey]) -> None:
    file = ClientKeyFile(key=tuple(keys), revoked=("gone",))
    assert parse_client_keys(render_client_keys(file), name="keys") == file


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[[key]]\nid = "A"\ncreated_s = 1', "keys:key[0].id: got 'A', expected 2 to 32 characters"),
        ('[[key]]\nid = "a:b"\ncreated_s = 1', "keys:key[0].id: got 'a:b'"),
        ('[[key]]\nid = "ab"', "keys:key[0].created_s: missing"),
        ('[[key]]\nid = "ab"\ncreated_s = 1\nsha256 = "AB"', "keys:key[0].sha256: got 2 characters"),
        ('[[key]]\nid = "ab"\ncreated_s = -1', "keys:key[0].created_s: got -1, expected 0 to"),
        (
            '[[key]]\nid = "ab"\ncreated_s = 1\nmodels = ["a b"]',
            "keys:key[0].models[0]: got 'a b', expected the name of a model",
        ),
        ('[[key]]\nid = "ab"\ncreated_s = 1\nnote = "\\n"', "keys:key[0].note: expected at most 200"),
        ('[[key]]\nid = "ab"\ncreated_s = 1\nsecret = "x"', "keys:key[0].secret: unknown key"),
        ('[[key]]\nid = "ab"\ncreated_s = 1\n' * 2, "keys:key: two keys have the id 'ab'"),
        (f'[[key]]\nid = "ab"\ncreated_s = 1\nprevious_sha256 = "{"a" * 64}"', "keys:key[0].previous_sha256: expected"),
        ('revoked = ["A B"]', "keys:revoked[0]: got 'A B'"),
        ("schema = 3", "keys:schema: got 3, expected 1"),
        ('[[key]]\nid = "ab"\ncreated_s = 1\n\n' * 4097, "keys:key: got 4097 entries, expected at most 4096"),
    ],
)
def test_a_damaged_file_is_told_with_each_problem(text: str, problem: str) -> None:
    with pytest.raises(DataError) as caught:
        parse_client_keys(text, name="keys")
    assert problem in caught.value.message


def test_the_machine_s_keys_and_revocations_outrank_the_image_s() -> None:
    image = ClientKeyFile(
        key=(A_KEY, replace(A_KEY, id="two", sha256="b" * 64), replace(A_KEY, id="three", sha256="c" * 64))
    )
    machine = ClientKeyFile(key=(replace(A_KEY, sha256="d" * 64),), revoked=("two",))
    assert [(key.id, key.sha256[0]) for key in merge_keys(image, machine)] == [("three", "c"), ("one", "d")]


def test_the_maps_hold_digests_bounds_and_scopes() -> None:
    keys = [
        A_KEY,
        ClientKey(id="two", sha256="b" * 64, models=("m", "org/n"), max_tokens=7, expires_s=9, created_s=1),
        ClientKey(id="cert", concurrency=0, created_s=1),
        ClientKey(id="turned", sha256="c" * 64, previous_sha256="d" * 64, previous_expires_s=50, expires_s=40, created_s=1),
    ]
    maps = render_key_maps(keys, LimitsConfig(), complete=True)
    assert maps.keys.splitlines() == [
        f"{'a' * 64} one:600:32:0:0:*",
        f"{'b' * 64} two:600:32:7:9:-",
        f"{'c' * 64} turned:600:32:0:40:*",
        f"{'d' * 64} turned:600:32:0:40:*",
    ]
    assert maps.clients == "cert cert:600:0:0:0:*\n"
    assert maps.scopes == "two/m 1\ntwo/org/n 1\n"
    assert maps.state == "complete 1\n"
    assert render_key_maps([], LimitsConfig(), complete=False).state == ""


def test_the_rules_hold_no_regular_expression() -> None:
    """HAProxy compiles them to machine code, which its unit forbids."""
    rules = KeyRules(refusals_per_minute=20, certificates=True)
    text = "\n".join([*render_key_rules(rules), *render_visible(["m"], rules), *render_length_rules()])
    assert not any(word in text for word in ("regsub", "-m reg", "_reg(", "path_reg", "hdr_reg"))


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return KeyStore(root=Root(tmp_path), file=tmp_path / MACHINE_KEYS.lstrip("/"), on_machine=True)


def test_a_key_is_shown_once_and_only_its_digest_is_stored(store: KeyStore) -> None:
    made = add_key(store, KeyRequest(note="chat"), now_s=NOW)
    assert made.secret.startswith(f"bp_{made.key.id}_")
    assert len(made.secret) - len(f"bp_{made.key.id}_") == 43  # 256 bits of base64url
    written = "".join(path.read_text() for path in store.root.path.rglob("*") if path.is_file())
    assert made.secret not in written and made.key.sha256 in written
    assert stat.S_IMODE(store.file.stat().st_mode) == 0o600
    assert [item.key for item in list_keys(store)] == [made.key]
    assert add_key(store, KeyRequest(), now_s=NOW).secret != made.secret


@pytest.mark.parametrize(
    "wish",
    [
        KeyRequest(id="A"),
        KeyRequest(id="x" * 33),
        KeyRequest(models=("a b",)),
        KeyRequest(note="\n"),
        KeyRequest(certificate=True),
    ],
)
def test_what_cannot_be_a_key_is_refused_and_nothing_is_written(store: KeyStore, wish: KeyRequest) -> None:
    with pytest.raises(UsageError):
        add_key(store, wish, now_s=NOW)
    assert not store.file.exists()


def test_an_id_is_given_once(store: KeyStore) -> None:
    add_key(store, KeyRequest(id="one"), now_s=NOW)
    with pytest.raises(UsageError, match="one: a key with this id exists"):
        add_key(store, KeyRequest(id="one"), now_s=NOW)


def test_a_key_of_the_image_can_be_revoked_and_rotated_on_the_machine(store: KeyStore) -> None:
    image = store.root.at("/usr/lib/bedplate/client-keys.toml")
    image.parent.mkdir(parents=True)
    image.write_text(render_client_keys(ClientKeyFile(key=(A_KEY, replace(A_KEY, id="two", sha256="b" * 64)))))
    revoke_key(store, "one")
    made = rotate_key(store, "two", grace_s=60, now_s=NOW)
    assert [(item.key.id, item.origin) for item in list_keys(store)] == [("two", "machine")]
    assert (made.key.previous_sha256, made.key.previous_expires_s) == ("b" * 64, NOW + 60)
    with pytest.raises(UsageError, match="one: no key has this id"):
        revoke_key(store, "one")
    with pytest.raises(UsageError, match="was revoked"):
        add_key(store, KeyRequest(id="one"), now_s=NOW)


def test_a_second_rotation_does_not_end_a_key_that_was_promised_to_hold(store: KeyStore) -> None:
    first = add_key(store, KeyRequest(id="one"), now_s=NOW)
    second = rotate_key(store, "one", grace_s=60, now_s=NOW)
    with pytest.raises(UsageError, match="was rotated already, and its key of before holds until") as caught:
        rotate_key(store, "one", grace_s=60, now_s=NOW + 59)
    assert "--grace 0" in (caught.value.hint or "")
    assert second.key.previous_sha256 == first.key.sha256 == list_keys(store)[0].key.previous_sha256
    third = rotate_key(store, "one", grace_s=60, now_s=NOW + 60)
    assert third.key.previous_sha256 == second.key.sha256
    assert rotate_key(store, "one", grace_s=0, now_s=NOW + 61).key.previous_sha256 == ""


def test_keys_that_are_edited_by_hand_are_left_to_prepare_by_a_renewal(store: KeyStore) -> None:
    """What `prepare` does not find changed it does not give to the running front end, where a removed key would go on."""
    config = store.root.at("/etc/bedplate/machine.toml")
    config.parent.mkdir(parents=True)
    config.write_text('schema = 1\n[front]\naddresses = ["127.0.0.1"]\n')
    add_key(store, KeyRequest(id="gone"), now_s=NOW)
    store.file.write_text(render_client_keys(ClientKeyFile()))
    assert not ca.renew(Notes(), now_s=NOW, root=store.root)
    written = write_front(store.root, read_front_setting(store.root), Notes(), now_s=NOW)
    assert "keys.map" in written.changed


def test_a_damaged_file_is_not_written_over(store: KeyStore) -> None:
    store.file.parent.mkdir(parents=True)
    store.file.write_text("damaged")
    with pytest.raises(BedplateError):
        add_key(store, KeyRequest(), now_s=NOW)
    assert store.file.read_text() == "damaged"


def test_on_a_build_host_the_keys_are_those_of_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from bedplate.cli.main import main

    monkeypatch.setenv("BEDPLATE_STATE_DIR", str(tmp_path))
    assert main(["key", "add", "baked", "--model", "m", "--json"]) == 0
    printed = capsys.readouterr()
    made = json.loads(printed.out)
    assert made["secret"].startswith("bp_baked_") and "images that you build from now on" in printed.err
    assert made["sha256"] in (tmp_path / "keys/client-keys.toml").read_text()
    assert main(["key", "list"]) == 0
    assert "baked" in capsys.readouterr().out
    assert main(["key", "rotate", "baked"]) == 0
    assert main(["key", "revoke", "baked"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "revoked baked"
    assert main(["key", "revoke", "baked"]) == 2
