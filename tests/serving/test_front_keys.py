"""Keys at the real HAProxy: who is answered, what each client may use, and changes while requests run."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import threading
import time

import pytest

from bedplate.act.front_admin import replace_map
from bedplate.flows.key import list_keys, open_key_store, revoke_key, rotate_key
from bedplate.host.root.root import Root
from bedplate.model.instance import socket_of
from tests.effort import wait_until
from tests.serving.closed_front import COMPLETIONS, OTHER, SERVED, ClosedFront, MakeFront

pytestmark = pytest.mark.build

PLAIN = """
[front]
addresses = ["127.0.0.1"]
port = {port}
[front.limits]
refusals_per_minute = 100000
"""


@pytest.fixture(scope="module")
def front(make_front: MakeFront) -> ClosedFront:
    """On loopback without TLS, with an engine; guesses are hardly limited."""
    machine = make_front(PLAIN)
    machine.start()
    machine.start_engine()
    return machine


def test_without_a_key_nothing_but_health_is_answered(front: ClosedFront) -> None:
    assert front.ask(f"/health/{SERVED}").status == 200
    for path, body in ((COMPLETIONS, front.complete()), ("/v1/models", None), ("/nowhere", None), ("/metrics", None)):
        answer = front.ask(path, body)
        assert (answer.status, answer.code) == (401, "missing_api_key")
        assert answer.headers["www-authenticate"] == "Bearer"


def test_a_key_is_taken_in_either_header(front: ClosedFront) -> None:
    secret = front.add_key()
    assert re.fullmatch(r"bp_[a-z0-9]{8}_[A-Za-z0-9_-]{43}", secret)
    assert front.ask(COMPLETIONS, front.complete(), key=secret).status == 200
    assert front.ask(COMPLETIONS, front.complete(), headers={"x-api-key": secret}).status == 200
    assert front.ask("/v1/models", headers={"authorization": f"BEARER {secret}"}).status == 200


def test_what_is_no_key_is_401(front: ClosedFront) -> None:
    secret = front.add_key()
    digest = hashlib.sha256(secret.encode()).hexdigest()
    wrong = [secret[:-1], secret + "x", digest, "", " ", "x" * 20_000, secret.upper(), f"{secret},{secret}", "\x7f\x01"]
    for key in wrong:
        answer = front.ask("/v1/models", headers={"Authorization": f"Bearer {key}"})
        assert answer.status in (400, 401, 431), key
    assert front.ask("/v1/models", headers={"Authorization": f"Basic {secret}"}).status == 401
    assert front.ask("/v1/models", headers={"Authorization": secret}).status == 401


def test_two_keys_in_one_request_are_refused(front: ClosedFront) -> None:
    secret = front.add_key()
    both = front.ask("/v1/models", headers={"Authorization": f"Bearer {secret}", "x-api-key": secret})
    assert (both.status, both.code) == (400, "ambiguous_api_key")
    connection = front.connect()
    connection.putrequest("GET", "/v1/models")
    for _ in range(2):
        connection.putheader("Authorization", f"Bearer {secret}")
    connection.endheaders()
    assert connection.getresponse().status == 400
    connection.close()


def test_the_machine_itself_needs_no_key(front: ClosedFront) -> None:
    assert front.local(COMPLETIONS, front.complete()).status == 200
    socket = front.top / "run/bedplate/haproxy/local.sock"
    assert socket.stat().st_mode & 0o777 == 0o600
    assert (front.top / "run/bedplate/haproxy/admin.sock").stat().st_mode & 0o777 == 0o600


def test_a_model_that_a_key_may_not_use_does_not_exist_for_it(front: ClosedFront) -> None:
    narrow = front.add_key(models=(SERVED,))
    refused = front.ask(COMPLETIONS, front.complete(OTHER), key=narrow)
    unknown = front.ask(COMPLETIONS, front.complete("nobody"), key=narrow)
    assert (refused.status, refused.json) == (404, json.loads(unknown.text.replace("nobody", OTHER)))
    assert front.ask(COMPLETIONS, front.complete(), key=narrow).status == 200
    wide = front.add_key()
    assert front.ask(COMPLETIONS, front.complete(OTHER), key=wide).code == "model_not_ready"
    for name in (f"{SERVED}\n", f"x/{SERVED}", f"{SERVED}/../{OTHER}", f"{OTHER} 1", f"\n{OTHER}"):
        assert front.ask(COMPLETIONS, front.complete(name), key=narrow).status == 404


CHAT = "/v1/chat/completions"
TEXT = {"model": SERVED, "prompt": "a"}
TALK = {"model": SERVED, "messages": [{"role": "user", "content": "a"}]}


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        (COMPLETIONS, TEXT, "max_tokens"),
        (COMPLETIONS, TEXT, "n_predict"),
        (CHAT, TALK, "max_tokens"),
        (CHAT, TALK, "max_completion_tokens"),
    ],
)
def test_the_longest_answer_of_a_key_is_bounded(front: ClosedFront, path: str, body: dict[str, object], field: str) -> None:
    secret = front.add_key(max_tokens=4)
    assert front.ask(path, body | {field: 4}, key=secret).status == 200
    for value in (5, -1, 10**30, 1e9, 4.5):
        assert front.ask(path, body | {field: value}, key=secret).code == "max_tokens_exceeded", value
    for no_number in (None, "4", [4]):
        assert front.ask(path, body | {field: no_number}, key=secret).code == "max_tokens_required", no_number
    assert front.ask(path, body, key=secret).code == "max_tokens_required"


def test_a_second_name_for_the_length_does_not_widen_it(front: ClosedFront) -> None:
    secret = front.add_key(max_tokens=4)
    assert front.ask(COMPLETIONS, TEXT | {"max_tokens": 1, "n_predict": 900}, key=secret).code == "max_tokens_exceeded"
    for second in ('"max_tokens": 900', '"max\\u005ftokens": 900'):
        text = f'{{"model": "{SERVED}", "prompt": "a", "max_tokens": 1, {second}}}'
        assert front.ask(COMPLETIONS, text, key=secret).code == "duplicate_parameter"


def test_a_key_sees_the_models_that_it_may_use(front: ClosedFront) -> None:
    narrow, wide, none = front.add_key(models=(SERVED,)), front.add_key(), front.add_key(models=("gone",))

    def names(key: str) -> list[str]:
        return [row["id"] for row in front.ask("/v1/models", key=key).json["data"]]

    assert (names(narrow), sorted(names(wide)), names(none)) == ([SERVED], sorted([SERVED, OTHER]), [])
    assert front.ask(f"/v1/models/{SERVED}", key=narrow).status == 200
    for path in (f"/v1/models/{OTHER}", f"/metrics/{OTHER}", "/metrics", "/version"):
        assert front.ask(path, key=narrow).status == 404, path
    for path in (f"/v1/models/{OTHER}", f"/metrics/{SERVED}", "/metrics", "/version"):
        assert front.ask(path, key=wide).status == 200, path


def test_on_anthropic_s_paths_a_refusal_has_anthropic_s_form(front: ClosedFront) -> None:
    answer = front.ask("/v1/messages", TALK, headers={"x-api-key": "wrong"})
    assert (answer.status, answer.json["type"], answer.json["error"]["type"]) == (401, "error", "authentication_error")


def test_a_key_has_so_many_requests_a_minute(front: ClosedFront) -> None:
    secret = front.add_key(requests_per_minute=3)
    answers = [front.ask("/v1/models", key=secret) for _ in range(5)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429, 429]
    assert answers[-1].code == "rate_limit_exceeded" and "retry-after" in answers[-1].headers
    assert front.ask("/v1/models", key=front.add_key()).status == 200


def test_a_key_has_so_many_requests_at_once(front: ClosedFront) -> None:
    secret = front.add_key(concurrency=1)
    first = front.connect()
    body = json.dumps(front.complete(max_tokens=4000, ignore_eos=True, stream=True))
    first.request("POST", COMPLETIONS, body, {"Authorization": f"Bearer {secret}"})
    answer = first.getresponse()
    answer.read(10)
    second = front.ask("/v1/models", key=secret)
    assert (second.status, second.code) == (429, "concurrency_limit_exceeded")
    first.close()
    answer.close()
    wait_until(lambda: front.ask("/v1/models", key=secret).status == 200, "the place of the first request is free")


def test_a_key_ends_when_it_expires(front: ClosedFront) -> None:
    secret = front.add_key(lasts_s=1)
    wait_until(lambda: front.ask("/v1/models", key=secret).status == 401, "the key has expired")
    assert front.ask("/v1/models", key=secret).code == "expired_api_key"


def test_a_revoked_key_is_refused_and_an_old_one_ends_after_its_grace(front: ClosedFront) -> None:
    store = open_key_store(Root(front.top))
    first = front.add_key("rotated")
    second = rotate_key(store, "rotated", grace_s=600, now_s=int(time.time())).secret
    assert [front.ask("/v1/models", key=key).status for key in (first, second)] == [200, 200]
    third = rotate_key(store, "rotated", grace_s=0, now_s=int(time.time())).secret
    assert [front.ask("/v1/models", key=key).status for key in (first, second, third)] == [401, 401, 200]
    revoke_key(store, "rotated")
    assert front.ask("/v1/models", key=third).code == "invalid_api_key"
    assert "rotated" not in [item.key.id for item in list_keys(store)]


def test_keys_change_without_a_lost_request_and_a_reload_agrees(front: ClosedFront) -> None:
    """Another client asks all the time, each time on a new connection, while keys come and go and HAProxy is reloaded."""
    steady, store = front.add_key(requests_per_minute=0), open_key_store(Root(front.top))
    statuses: list[int] = []
    over = threading.Event()

    def ask_on() -> None:
        while not over.is_set():
            statuses.append(front.ask("/v1/models", key=steady).status)

    client = threading.Thread(target=ask_on)
    client.start()
    try:
        for number in range(10):
            secret = front.add_key(f"passing-{number}")
            assert front.ask("/v1/models", key=secret).status == 200
            if number % 2:
                revoke_key(store, f"passing-{number}")
                assert front.ask("/v1/models", key=secret).status == 401
        kept = front.add_key("kept")
        before = front.admin("show map /run/bedplate/front/keys.map")
        front.reload()
        after = front.admin("show map /run/bedplate/front/keys.map")
        assert sorted(line.split(" ", 1)[1] for line in before.split("\n") if line) == sorted(
            line.split(" ", 1)[1] for line in after.split("\n") if line
        )
        assert front.ask("/v1/models", key=kept).status == 200
    finally:
        over.set()
        client.join()
    assert set(statuses) == {200} and len(statuses) > 20


def test_thousands_of_keys_are_taken_in_one_step(front: ClosedFront) -> None:
    """More than one payload of the runtime API, and more than HAProxy's buffer."""
    path = "/run/bedplate/front/keys.map"
    text = (front.top / path.lstrip("/")).read_text()
    many = text + "".join(f"{number:064x} many:0:0:0:0:*\n" for number in range(4000))
    replace_map(front.top / "run/bedplate/haproxy/admin.sock", path, many)
    assert front.admin(f"show map {path}").count(" many:") == 4000
    replace_map(front.top / "run/bedplate/haproxy/admin.sock", path, text)
    assert " many:" not in front.admin(f"show map {path}")


def test_the_engine_never_sees_a_key(front: ClosedFront) -> None:
    """What HAProxy hands on is read where the engine of the other model would listen."""
    secret = front.add_key()
    path = front.top / socket_of(OTHER).lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    seen: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(16)

        def serve() -> None:
            while not any(b"canary" in text for text in seen):
                client, _ = listener.accept()
                with client:
                    text = client.recv(65536)
                    seen.append(text)
                    body = b'{"usage":{"completion_tokens":1}}'
                    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

        server = threading.Thread(target=serve)
        server.start()
        wait_until(lambda: front.local(f"/health/{OTHER}").status == 200, "HAProxy takes it for an engine")
        headers = {"Authorization": f"Bearer {secret}", "X-Canary": "canary"}
        assert front.ask(COMPLETIONS, front.complete(OTHER, prompt="canary"), headers=headers).status == 200
        server.join()
    path.unlink()
    assert secret.encode() not in b"".join(seen)
    assert not any(b"authorization" in text.lower() for text in seen)


def test_guessing_is_slowed_down_and_holders_of_keys_are_not(make_front: MakeFront) -> None:
    machine = make_front(PLAIN.replace("100000", "20"))
    machine.start()
    secret = machine.add_key()
    statuses = [machine.ask("/v1/models", key=f"bp_guess_{number}").status for number in range(30)]
    assert statuses == [401] * 20 + [429] * 10
    refused = machine.ask("/v1/models", key="bp_guess_last")
    assert (refused.code, refused.headers["retry-after"]) == ("too_many_invalid_keys", "60")
    assert machine.ask("/v1/models", key=secret).status == 200


def test_until_all_keys_are_known_an_unknown_one_gets_503(make_front: MakeFront) -> None:
    """As before /var is open, or where its file of keys is damaged: a client with a key must not take 401 for an answer."""
    machine = make_front(PLAIN)
    (machine.top / "var/lib/bedplate/client-keys.toml").write_text("schema = 1\n[[key]]\nid = 7\n")
    serving, notes = machine.prepare()
    assert "client-keys.toml:key[0].id: got int 7, expected str" in str(serving.problems[0])
    assert any("client-keys.toml" in note for note in notes)
    machine.start()
    answer = machine.ask(COMPLETIONS, machine.complete(), key="bp_some_thing")
    assert (answer.status, answer.code) == (503, "keys_not_loaded")
    (machine.top / "var/lib/bedplate/client-keys.toml").unlink()
    secret = machine.add_key()
    assert machine.ask("/v1/models", key=secret).status == 200
    assert machine.ask("/v1/models", key="bp_some_thing").status == 401


def test_a_damaged_machine_toml_closes_the_front(make_front: MakeFront) -> None:
    machine = make_front("[front]\nport = {port}\ninsecure = true\nrequire_key = false\n[front.limit]\nx = 1\n")
    serving, notes = machine.prepare()
    assert "machine.toml:front.limit: unknown key; did you mean 'limits'?" in str(serving.problems[0])
    machine.start()
    with pytest.raises(ConnectionRefusedError):
        machine.ask("/health")
    assert machine.local("/v1/models").status == 200
    assert any("the front end is closed" in note for note in notes)
    record = json.loads((machine.top / "run/bedplate/front.json").read_text())
    assert record["problems"] and record["addresses"] == []
