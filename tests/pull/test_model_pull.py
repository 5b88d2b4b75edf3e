"""`bedplate model pull` as a person types it, from a hub of the test, an address and a path."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bedplate.catalog.facts import KNOWN_ANSWER_GGUF
from bedplate.cli import main as command
from bedplate.flows.pull import PullRequest, pull
from bedplate.model.download import Patience
from tests.pull.hub import COMMIT, put_repository
from tests.pull.server import QUICK, Handler, Notes, Server, content, cut_after, status

MODEL = KNOWN_ANSWER_GGUF.read_bytes()
DIGEST = hashlib.sha256(MODEL).hexdigest()
RECORD = {"version": "1", "digest": "0" * 64, "file": "l.raw", "size_bytes": 1, "architectures": ["llama"]}
"""Of a layer that was built."""
TOKEN = "hf_" + "s3cret" * 5


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with Server() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.origin)
        yield server


@pytest.fixture
def lfs() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BEDPLATE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("BEDPLATE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("HF_TOKEN", "HF_TOKEN_PATH", "HF_HOME", "XDG_CACHE_HOME", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "state"


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*words: str | Path, code: int = 0) -> tuple[str, str]:
        assert command.main(["model", *map(str, words)]) == code, capsys.readouterr().err
        captured = capsys.readouterr()
        return captured.out, captured.err

    return run


def pulls(state: Path) -> list[str]:
    """What pulls have left in the store."""
    return sorted(path.name for path in (state / "models/pulls").iterdir() if path.name != ".lock")


QUANTISATIONS = {"known-Q8_0.gguf": MODEL, "known-Q4_K_M.gguf": b"GGUF" + bytes(100), "README.md": b"# Known\n"}


def test_from_the_hub_into_the_store(
    hub: Server, lfs: Server, state: Path, say: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    put_repository(hub, "org/known", QUANTISATIONS, store=lfs)
    out, err = say("pull", "hf:org/known", "--file", "q8_0", "--json")
    model = json.loads(out)
    assert (model["name"], model["sha256"]) == ("known-Q8_0", DIGEST)
    assert Path(model["path"]).read_bytes() == MODEL and Path(model["path"]).stat().st_mode & 0o777 == 0o444
    assert model["origin"] == {"source": "hf:org/known", "endpoint": hub.origin, "revision": COMMIT, "stated": True}
    assert json.loads(say("list", "--json")[0]) == [model]
    assert f"pulled from    hf:org/known at {COMMIT}" in say("show", "known-Q8_0")[0]
    assert say("verify")[0] == "known-Q8_0: ok\n"
    record = (state / "models/names/known-Q8_0.json").read_text()
    assert json.loads(record)["origin"] == model["origin"] and json.loads(record)["schema"] == 1
    assert pulls(state) == []
    # The token was for the hub alone, and stands nowhere.
    assert all(headers["authorization"] == f"Bearer {TOKEN}" for _, headers in hub.asked)
    assert lfs.asked and all("authorization" not in headers for _, headers in lfs.asked)
    for text in (out, err, record):
        assert TOKEN not in text and "X-Signature" not in text
    assert not [path for path, _ in hub.asked if "Q4_K_M" in path]  # nothing else was fetched


def test_several_quantisations_are_listed(hub: Server, say: Any) -> None:
    put_repository(hub, "org/known", QUANTISATIONS)
    _, err = say("pull", "hf:org/known", code=1)
    assert "hf:org/known: has 2 models; there are:" in err
    assert "104 B: known-Q4_K_M.gguf" in err and "2.7 MiB: known-Q8_0.gguf" in err
    assert "bedplate model pull hf:org/known --file=known-Q4_K_M.gguf" in err
    _, err = say("pull", "hf:org/known", "--file", "Q5_1", code=2)
    assert "--file Q5_1: no model in hf:org/known has this in its name" in err
    assert not [path for path, _ in hub.asked if "/resolve/" in path]


def test_what_no_engine_serves_is_refused_after_its_header(
    hub: Server, lfs: Server, state: Path, say: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixteen megabytes behind a header of another kind of model: one is fetched."""
    (state / "engines").mkdir(parents=True)
    (state / "engines/llamacpp.json").write_text(json.dumps({**RECORD, "architectures": ["other"]}))
    put_repository(hub, "org/known", {"m.gguf": MODEL}, store=lfs)
    read: list[int] = []

    def count(handler: Handler) -> bool:
        served = handler.server.files[handler.path.partition("?")[0]]

        def send(body: bytes) -> None:
            for start in range(0, len(body), 4096):
                handler.wfile.write(body[start : start + 4096])
                read.append(4096)

        handler.serve(served, send=send)
        return True

    lfs.always = count
    _, err = say("pull", "hf:org/known", code=1)
    assert "the engine does not know the architecture 'llama'" in err
    assert say("list", "--json")[0] == "[]\n"
    assert sum(path.stat().st_size for path in (state / "models/pulls").glob("*.part")) == 1 << 20


def test_a_name_that_is_taken_is_refused_before_the_fetch(hub: Server, state: Path, say: Any, tmp_path: Path) -> None:
    other = tmp_path / "other.gguf"
    other.write_bytes(MODEL + bytes(0))
    say("add", KNOWN_ANSWER_GGUF, "--name", "m")
    longer = bytearray(MODEL)
    longer[-1] ^= 1
    put_repository(hub, "org/known", {"m.gguf": bytes(longer)})
    _, err = say("pull", "hf:org/known", code=1)  # of the same length: known by its digest at the end
    assert "m: this name already belongs to another model" in err
    say("pull", "hf:org/known", "--replace")
    assert json.loads(say("list", "--json")[0])[0]["sha256"] == hashlib.sha256(longer).hexdigest()


def test_content_that_the_store_has_is_not_fetched(hub: Server, lfs: Server, state: Path, say: Any) -> None:
    say("add", KNOWN_ANSWER_GGUF)
    (state / "models/pulls").mkdir()
    (state / f"models/pulls/sha256-{DIGEST}.part").hardlink_to(state / "models/sha256" / DIGEST)  # of a killed pull
    put_repository(hub, "org/known", {"m.gguf": MODEL}, store=lfs)
    out, err = say("pull", "hf:org/known", "--json")
    assert "m.gguf: the store has this content already" in err
    assert json.loads(out)["name"] == "m" and lfs.asked == [] and pulls(state) == []
    assert say("verify")[0] == "known-answer: ok\nm: ok\n"
    say("rm", "known-answer")
    assert say("verify")[0] == "m: ok\n"


def test_a_pull_that_broke_goes_on(hub: Server, lfs: Server, state: Path, say: Any) -> None:
    put_repository(hub, "org/known", {"m.gguf": MODEL}, store=lfs)
    hub.faults = [lambda handler: False] * 4  # commit, two pages, the file
    lfs.faults = [cut_after(1_500_000)]
    lfs.always = status(500)
    with pytest.raises(Exception, match="given up after 2 attempts"):
        pull(PullRequest(source="hf:org/known"), Notes(), patience=Patience(silence_s=1, attempts=2, first_wait_s=0.01))
    (part,) = (state / "models/pulls").glob("*.part")
    there = part.stat().st_size
    assert 0 < there < len(MODEL) and part.read_bytes() == MODEL[:there]
    lfs.always = None
    lfs.asked.clear()
    say("pull", "hf:org/known")
    assert lfs.ranges()[0] == f"bytes={there}-" and pulls(state) == []


def test_ctrl_c_leaves_what_came_and_says_so(hub: Server, lfs: Server, state: Path) -> None:
    put_repository(hub, "org/known", {"m.gguf": MODEL}, store=lfs)

    class Impatient(Notes):
        def detail(self, text: str) -> None:
            if "/s" in text:
                raise KeyboardInterrupt

    notes = Impatient()
    with pytest.raises(KeyboardInterrupt):
        pull(PullRequest(source="hf:org/known"), notes, patience=QUICK)
    assert notes.notes[-1].endswith("of it are kept; give the same command again to go on")
    assert not list((state / "models/pulls").glob("tree-*"))
    pull(PullRequest(source="hf:org/known"), Notes(), patience=QUICK)


def test_names_that_lead_elsewhere_are_left_out(hub: Server, state: Path, say: Any, tmp_path: Path) -> None:
    bad = [
        "../../up.gguf",
        "/etc/evil.gguf",
        "a/../b.gguf",
        "a//b.gguf",
        ".hidden.gguf",
        "a\nb.gguf",
        "a\\b.gguf",
        "\x1b[2J.gguf",
        "x" * 300 + ".gguf",
    ]
    rows = [{"type": "file", "path": path, "size": 4, "oid": "0" * 40} for path in bad]
    rows += [{"type": "file", "path": "n.gguf", "size": -1}, {"type": "file", "path": 7}, {"type": "file"}]
    put_repository(hub, "org/known", {"m.gguf": MODEL}, rows=rows)
    _, err = say("pull", "hf:org/known")
    assert "left out, since it is not a plain name: ../../up.gguf" in err and "\x1b" not in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state"]
    put_repository(hub, "org/bad", {}, rows=rows)
    say("pull", "hf:org/bad", code=1)


def test_split_models_and_directories(hub: Server, say: Any, tmp_path: Path) -> None:
    from tests.pull.parts import split_model

    parts = split_model(MODEL, tmp_path)
    put_repository(hub, "org/split", {f"Q8_0/{name}": body for name, body in parts.items()})
    model = json.loads(say("pull", "hf:org/split", "--json")[0])
    assert model["main"] == "known-00001-of-00002.gguf" and model["name"] == "known"
    assert model["parameters"] == 2_590_464
    assert say("verify")[0] == "known: ok\n"
    del parts["known-00002-of-00002.gguf"]
    put_repository(hub, "org/half", {f"Q8_0/{name}": body for name, body in parts.items()})
    assert "has 1 of 2 parts" in say("pull", "hf:org/half", code=1)[1]


def test_safetensors_are_refused_unless_they_are_wanted(hub: Server, lfs: Server, say: Any) -> None:
    header = json.dumps({"w": {"dtype": "F16", "shape": [2, 2], "data_offsets": [0, 8]}}).encode()
    weights = struct.pack("<Q", len(header)) + header + bytes(8)
    files = {"config.json": b'{"model_type": "llama"}', "model.safetensors": weights, "evil.py": b"import os", "m.bin": b"x"}
    files |= {"a.json": b"{}", "b.json": b"{}", "empty.txt": b"", "LICENSE": b"{}"}  # the same content under several names
    put_repository(hub, "org/st", files, store=lfs)
    _, err = say("pull", "hf:org/st", code=1)
    assert "which no engine on this host reads" in err and lfs.asked == []
    model = json.loads(say("pull", "hf:org/st", "--any-format", "--json")[0])
    assert (model["name"], model["format"], model["architecture"]) == ("org/st", "safetensors", "llama")
    names = {path.name for path in Path(model["path"]).iterdir()}
    assert names == {"config.json", "model.safetensors", "a.json", "b.json", "empty.txt", "LICENSE"}
    assert say("verify")[0] == "org/st: ok\n"


def test_safetensors_are_fetched_where_an_engine_that_reads_them_has_a_layer(hub: Server, state: Path, say: Any) -> None:
    header = json.dumps({"w": {"dtype": "F16", "shape": [2, 2], "data_offsets": [0, 8]}}).encode()
    weights = struct.pack("<Q", len(header)) + header + bytes(8)
    put_repository(hub, "org/st", {"config.json": b'{"model_type": "llama"}', "model.safetensors": weights})
    (state / "engines").mkdir(parents=True)
    (state / "engines/transformers.json").write_text(json.dumps(RECORD))
    assert json.loads(say("pull", "hf:org/st", "--json")[0])["format"] == "safetensors"


def test_a_pinned_commit_and_a_branch(hub: Server, say: Any) -> None:
    put_repository(hub, "org/known", {"m.gguf": MODEL}, revision="refs%2Fpr%2F1")
    assert json.loads(say("pull", "hf:org/known@refs/pr/1", "--json")[0])["origin"]["revision"] == COMMIT
    assert json.loads(say("pull", f"hf:org/known@{COMMIT}", "--json")[0])["origin"]["revision"] == COMMIT
    assert hub.asked[0][0] == "/api/models/org/known/revision/refs%2Fpr%2F1"
    other = "f" * 40
    hub.put(f"/api/models/org/known/revision/{other}", json.dumps({"sha": COMMIT}).encode())
    assert f"gives commit {COMMIT} for it" in say("pull", f"hf:org/known@{other}", code=1)[1]


@pytest.mark.parametrize(
    ("header", "value"),
    [("X-Repo-Commit", "f" * 40), ("X-Linked-Size", "5"), ("X-Linked-ETag", '"' + "0" * 64 + '"')],
)
def test_headers_of_the_hub_that_contradict_its_list(hub: Server, say: Any, header: str, value: str) -> None:
    put_repository(hub, "org/known", {"m.gguf": MODEL})
    hub.files[f"/org/known/resolve/{COMMIT}/m.gguf"].headers[header] = value
    assert f"{header}: got" in say("pull", "hf:org/known", code=1)[1]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<html>log in</html>", "answers with no list, but b'<html>"),
        (b"[]", "does not say a commit"),
        (b'{"sha": "../x"}', "does not say a commit"),
        (b"[" * 100_000, "answers with no list"),
    ],
)
def test_a_hub_that_is_none(hub: Server, say: Any, body: bytes, message: str) -> None:
    hub.put("/api/models/org/known/revision/main", body)
    assert message in say("pull", "hf:org/known", code=1)[1]


def test_a_gated_model_says_what_to_do(hub: Server, say: Any, tmp_path: Path) -> None:
    hub.always = status(401, X_Error_Code="GatedRepo", X_Error_Message="Access to model org/known is restricted.")
    _, err = say("pull", "hf:org/known", code=1)
    assert "status 401 (Access to model org/known is restricted.)" in err and "--token-file FILE" in err
    hub.always = None
    put_repository(hub, "org/known", {"m.gguf": MODEL})
    (tmp_path / ".cache/huggingface").mkdir(parents=True)
    (tmp_path / ".cache/huggingface/token").write_text(f"{TOKEN}\n")
    hub.asked.clear()
    say("pull", "hf:org/known")
    assert hub.asked[0][1]["authorization"] == f"Bearer {TOKEN}"


def test_an_address(lfs: Server, say: Any, state: Path) -> None:
    lfs.put("/files/m%20one.gguf", MODEL)
    url = lfs.url("/files/m%20one.gguf?token=s3cret")
    out, err = say("pull", url, "--json")
    model = json.loads(out)
    assert (model["name"], model["sha256"]) == ("m-one", DIGEST)
    assert model["origin"] == {"source": lfs.url("/files/m%20one.gguf"), "endpoint": "", "revision": "", "stated": False}
    assert f"its source says no digest; it has the SHA-256 {DIGEST}" in err and "s3cret" not in out + err
    assert json.loads(say("pull", url, "--sha256", DIGEST, "--json")[0])["origin"]["stated"] is True
    say("rm", "m-one")
    assert "its source says " + "0" * 64 in say("pull", url, "--sha256", "0" * 64, code=1)[1]
    assert pulls(state) == []


def test_an_address_of_something_else(lfs: Server, say: Any, state: Path) -> None:
    lfs.put("/m.gguf", b"<!DOCTYPE html><html>log in</html>" * 1000)
    assert "a page in HTML or XML" in say("pull", lfs.url("/m.gguf"), code=1)[1]
    lfs.put("/p.bin", b"PK\x03\x04" + content(1000))
    assert "a pickle file, which can run any code" in say("pull", lfs.url("/p.bin"), code=1)[1]
    lfs.put("/cut.gguf", MODEL[:2_000_000])
    assert "truncated" in (err := say("pull", lfs.url("/cut.gguf"), code=1)[1]) or "lies outside" in err or "MiB" in err
    assert str(state) not in err  # messages name the source, not the tree of the pull
    assert say("list", "--json")[0] == "[]\n"


def test_a_path_and_an_address_of_one(say: Any, tmp_path: Path) -> None:
    disk = tmp_path / "usb disk"
    disk.mkdir()
    (disk / "m.gguf").write_bytes(MODEL)
    model = json.loads(say("pull", disk / "m.gguf", "--json")[0])
    assert model["origin"]["source"] == str(disk / "m.gguf")
    assert json.loads(say("pull", f"file://{disk}/m.gguf".replace(" ", "%20"), "--json")[0]) == model
    assert json.loads(say("pull", disk, "--json")[0])["sha256"] == DIGEST


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ((), 2, "SOURCE is missing"),
        (("",), 2, "is nothing to pull"),
        (("hf:../x",), 2, "expected hf:ORG/NAME"),
        (("hf:a/b/c",), 2, "expected hf:ORG/NAME"),
        (("hf:a/b@../x",), 2, "expected hf:ORG/NAME"),
        (("ftp://a.example/m.gguf",), 2, "ftp: nothing is pulled by this scheme"),
        (("http://a.example/m.gguf",), 1, "plain http"),
        (("https://u:s3cret@a.example/m.gguf",), 1, "a user or a password"),
        (("https://a.example/",), 2, "is no name of a file"),
        (("https://a.example/%2e%2e",), 2, "is no name of a file"),
        (("https://a.example/m.gguf", "--file", "x"), 2, "an address is one file"),
        (("https://a.example/m.gguf", "--sha256", "abc"), 2, "expected 64 hex digits"),
        (("hf:a/b", "--sha256", "0" * 64), 2, "is for a file at an address"),
        (("hf:a/b", "--connections", "17"), 2, "expected 1 to 16"),
        (("hf:a/b", "--token-file", "/nowhere"), 1, "/nowhere: cannot read the token"),
        (("/nowhere.gguf",), 1, "/nowhere.gguf: cannot read"),
    ],
)
def test_wrong_turns(say: Any, words: tuple[str, ...], code: int, message: str) -> None:
    out, err = say("pull", *words, code=code)
    assert message in err and out == "" and "s3cret" not in err


def test_unfinished_files_can_be_removed(hub: Server, say: Any, state: Path) -> None:
    directory = state / "models/pulls"
    directory.mkdir(parents=True)
    (directory / f"sha256-{DIGEST}.part").write_bytes(b"x" * 2048)
    (directory / "tree-abc").mkdir()
    assert say("pull", "--discard-unfinished")[0] == "removed 1 unfinished file (2.0 KiB)\n"
    assert pulls(state) == []
    assert json.loads(say("pull", "--discard-unfinished", "--json")[0]) == {"files": 0, "size_bytes": 0}
