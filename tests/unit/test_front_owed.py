"""What the running front end did not take is given to it by the next change, and never counts as done."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.test_lock import Notes

from bedplate.act import front_admin, front_files, front_socket
from bedplate.act.front_files import RELOAD, owe_front, read_owed, settle_front, write_front_files
from bedplate.cli.main import main
from bedplate.errors import BedplateError
from bedplate.flows import key as key_flow
from bedplate.flows import serve
from bedplate.flows.front import read_front_setting, write_front
from bedplate.flows.key import KeyRequest, KeyStore, add_key, revoke_key, rotate_key
from bedplate.front.haproxy import MASTER_SOCKET, NO_TOKENS
from bedplate.front.keys import FRONT_DIRECTORY
from bedplate.front.tls import ADMIN_SOCKET
from bedplate.host.root.root import Root
from bedplate.model.client_key import MACHINE_KEYS

NOW = 1_800_000_000
TOKENS = "run/bedplate/haproxy-tokens.cfg"


class Front:
    """What answers on HAProxy's sockets: maps by file, and how often it was reloaded."""

    def __init__(self, root: Root) -> None:
        self.root, self.maps, self.reloads = root, dict[str, str](), 0
        self.deaf, self.refuses_reload = False, False
        self._prepared: dict[str, str] = {}
        for socket in (ADMIN_SOCKET, MASTER_SOCKET):
            root.at(socket).parent.mkdir(parents=True, exist_ok=True)
            root.at(socket).touch()

    def exchange(self, socket: Path, command: str, *, answer_s: float = 0) -> str:
        if socket == self.root.at(MASTER_SOCKET):
            return self._reload()
        if self.deaf:
            raise TimeoutError("timed out")
        words = command.split()
        if words[:2] == ["prepare", "map"]:
            self._prepared[words[2]] = ""
            return "New version created: 1\n"
        if words[:2] == ["add", "map"]:
            self._prepared[words[3]] += command.partition(" <<\n")[2]
        elif words[:2] == ["commit", "map"]:
            self.maps[Path(words[3]).name] = self._prepared.pop(words[3])
        return ""

    def _reload(self) -> str:
        if self.refuses_reload:
            return "Success=0\n--\n[ALERT] parsing [haproxy.cfg:1]"
        self.reloads += 1
        for path in self.root.at(FRONT_DIRECTORY).glob("*.map"):
            self.maps[path.name] = path.read_text()
        return "Success=1\n"

    def knows(self, id: str) -> bool:
        return f" {id}:" in self.maps.get("keys.map", "")


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    root = Root(tmp_path)
    config = root.at("/etc/bedplate/machine.toml")
    config.parent.mkdir(parents=True)
    config.write_text('schema = 1\n[front]\naddresses = ["127.0.0.1"]\n')
    root.at("/" + TOKENS).parent.mkdir(parents=True)
    root.at("/" + TOKENS).write_text(NO_TOKENS)
    return KeyStore(root=root, file=root.at(MACHINE_KEYS), on_machine=True)


@pytest.fixture
def front(store: KeyStore, monkeypatch: pytest.MonkeyPatch) -> Front:
    front = Front(store.root)
    monkeypatch.setattr(front_admin, "exchange", front.exchange)
    monkeypatch.setattr(front_socket, "exchange", front.exchange)
    return front


def owed(store: KeyStore) -> frozenset[str]:
    return read_owed(store.root.at(FRONT_DIRECTORY))


def test_a_key_that_the_front_did_not_take_comes_with_the_next(store: KeyStore, front: Front) -> None:
    add_key(store, KeyRequest(id="first"), now_s=NOW)
    assert front.knows("first") and owed(store) == frozenset()
    front.deaf = front.refuses_reload = True
    with pytest.raises(BedplateError, match="did not take it"):
        revoke_key(store, "first")
    assert front.knows("first") and "keys.map" in owed(store)
    front.deaf = front.refuses_reload = False
    # A change of a file that has nothing to do with keys.map: state and scopes are given in any case.
    add_key(store, KeyRequest(id="second", models=("m",)), now_s=NOW)
    assert front.knows("second") and not front.knows("first") and owed(store) == frozenset()


def test_a_front_that_takes_no_map_is_reloaded(store: KeyStore, front: Front) -> None:
    front.deaf = True
    made = add_key(store, KeyRequest(id="first"), now_s=NOW)
    assert made.not_taken == "" and front.knows("first") and front.reloads == 1 and owed(store) == frozenset()
    assert store.root.at("/" + TOKENS).read_text() == NO_TOKENS


def test_a_secret_is_shown_though_the_front_did_not_take_the_key(
    store: KeyStore, front: Front, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    front.deaf = front.refuses_reload = True
    monkeypatch.setattr(key_flow, "open_key_store", lambda: store)
    assert main(["key", "add", "first"]) == 1
    shown = capsys.readouterr()
    assert shown.out.startswith("bp_first_")
    assert "did not take it" in shown.err and "[ALERT]" in shown.err
    assert rotate_key(store, "first", grace_s=0, now_s=NOW).not_taken


def test_a_secret_is_shown_though_run_is_full(store: KeyStore, front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "/run/bedplate/front/.keys.map")

    with monkeypatch.context() as patched:
        patched.setattr(front_files, "write_whole", fail)
        made = add_key(store, KeyRequest(id="first"), now_s=NOW)
    assert made.secret and "/run/bedplate/front/.keys.map: No space left on device" in made.not_taken
    assert add_key(store, KeyRequest(id="second"), now_s=NOW).not_taken == "" and front.knows("first")


def test_prepare_gives_what_a_key_did_not(store: KeyStore, front: Front) -> None:
    front.deaf = front.refuses_reload = True
    assert add_key(store, KeyRequest(id="first"), now_s=NOW).not_taken
    front.deaf = front.refuses_reload = False
    written = write_front(store.root, read_front_setting(store.root), Notes(), now_s=NOW)
    assert "keys.map" in written.changed
    assert serve._apply(store.root, written.changed, Notes())
    assert front.knows("first") and owed(store) == frozenset()
    assert write_front(store.root, read_front_setting(store.root), Notes(), now_s=NOW).changed == ()


def test_a_reload_that_failed_is_made_by_the_next_key(store: KeyStore, front: Front) -> None:
    """A rollout has written a configuration that the front did not read; then somebody adds a key."""
    directory = store.root.at(FRONT_DIRECTORY)
    owe_front(directory, (RELOAD,))
    assert not serve._apply(store.root, (), Notes()), "prepare reloads the front though no file differs"
    front.refuses_reload = True
    assert add_key(store, KeyRequest(id="first"), now_s=NOW).not_taken
    assert front.knows("first") and owed(store) == frozenset((RELOAD,))
    front.refuses_reload = False
    assert add_key(store, KeyRequest(id="second"), now_s=NOW).not_taken == ""
    assert front.reloads == 1 and owed(store) == frozenset()
    assert store.root.at("/" + TOKENS).read_text() == NO_TOKENS


def test_a_file_is_owed_before_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill, or a full disk, between two files: what is written and not given is given by whoever comes next."""
    texts = {"keys.map": "a 1\n", "scopes.map": "b 1\n"}
    real = Path.chmod

    def fail(path: Path, mode: int) -> None:
        if path.name == "keys.map":
            raise OSError(28, "No space left on device", str(path))
        real(path, mode)

    monkeypatch.setattr(Path, "chmod", fail)
    with pytest.raises(OSError, match="No space"):
        write_front_files(tmp_path, texts)
    monkeypatch.undo()
    assert (tmp_path / "keys.map").exists()
    assert write_front_files(tmp_path, texts) == ("keys.map", "scopes.map")
    settle_front(tmp_path, ("keys.map",))
    assert write_front_files(tmp_path, texts) == ("scopes.map",)
    settle_front(tmp_path)
    assert write_front_files(tmp_path, texts) == ()


def test_a_damaged_list_of_what_is_owed_owes_everything(tmp_path: Path) -> None:
    texts = {"keys.map": "a 1\n"}
    write_front_files(tmp_path, texts)
    settle_front(tmp_path)
    (tmp_path / ".owed").write_bytes(b"\xff\0")
    assert write_front_files(tmp_path, texts) == ("keys.map",)
