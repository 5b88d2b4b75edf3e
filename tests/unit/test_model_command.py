"""`bedplate model` as a person types it: output, JSON, exit status, and the error of each wrong turn."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bedplate.catalog.facts import KNOWN_ANSWER_GGUF
from bedplate.cli import main as command


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BEDPLATE_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state"


def run(capsys: pytest.CaptureFixture[str], *words: str | Path, status: int = 0) -> tuple[str, str]:
    assert command.main(["model", *map(str, words)]) == status
    captured = capsys.readouterr()
    return captured.out, captured.err


def test_a_model_from_add_to_rm(capsys: pytest.CaptureFixture[str], state: Path) -> None:
    out, err = run(capsys, "list")
    assert out == "" and "no models in" in err
    out, err = run(capsys, "add", KNOWN_ANSWER_GGUF)
    assert out.splitlines()[1].split()[:4] == ["known-answer", "llama", "2.59", "M"]
    assert "copy 2.7 MiB" in err  # talk goes to stderr
    listed, _ = run(capsys, "list")
    assert listed == out
    shown, _ = run(capsys, "show", "known-answer", "--tensors")
    assert "parameters     2.59 M (2590464) in 29 tensors" in shown
    assert "chat template  yes" in shown and "blk.2.ffn_down.weight" in shown
    out, _ = run(capsys, "verify")
    assert out == "known-answer: ok\n"
    out, _ = run(capsys, "rm", "known-answer")
    assert out == "removed known-answer (2.7 MiB)\n"
    assert json.loads((state / "models" / "index.json").read_text())["models"] == []


def test_rm_says_why_the_space_is_not_free(capsys: pytest.CaptureFixture[str], state: Path) -> None:
    """It said `removed`, and the disk stayed full."""
    for name in ("one-name", "other-name"):
        run(capsys, "add", KNOWN_ANSWER_GGUF, "--name", name)
    (state / "models/names/other-name.json").write_text("{")
    (state / "models/index.json").unlink()
    out, _ = run(capsys, "rm", "one-name")
    assert out.splitlines()[:2] == ["removed one-name (2.7 MiB)", "2.7 MiB of removed models stay on the disk:"]
    assert f"{state}/models/names/other-name.json: is damaged" in out
    assert "bedplate model add PATH --name other-name" in out


def test_json_everywhere(capsys: pytest.CaptureFixture[str], state: Path) -> None:
    assert json.loads(run(capsys, "list", "--json")[0]) == []
    added = json.loads(run(capsys, "add", KNOWN_ANSWER_GGUF, "--name", "ka", "--json")[0])
    assert json.loads(run(capsys, "list", "--json")[0]) == [added]
    shown = json.loads(run(capsys, "show", added["sha256"][:8], "--json", "--tensors")[0])
    assert shown["name"] == "ka" and shown["tensor_count"] == len(shown["tensors"]) == 29
    Path(added["path"]).chmod(0o644)
    with Path(added["path"]).open("r+b") as file:
        file.write(b"X")
    (verdict,) = json.loads(run(capsys, "verify", "ka", "--json", status=1)[0])
    assert verdict["ok"] is False and "content has digest" in verdict["problem"]
    removed = json.loads(run(capsys, "rm", "ka", "--json")[0])
    assert added.pop("origin") is None
    assert removed == added | {"kept_bytes": 0, "obstacles": []}


def test_random_models_go_into_the_store(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = run(capsys, "make", "random", "--like", "smollm2-135m", "--json")
    made = json.loads(out)
    assert (made["name"], made["parameters"], made["quantisation"]) == ("random-smollm2-135m-q4_0", 134_515_008, "Q4_0")
    assert Path(made["path"]).stat().st_size == made["size_bytes"]
    assert "llama-3.2-1b" in run(capsys, "make", "random", "--like", "list")[0]
    assert json.loads(run(capsys, "make", "random", "--like", "list", "--json")[0])[0]["id"] == "llama-3.2-1b"


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (("add", "/nowhere.gguf"), 1, "error: /nowhere.gguf: cannot read: No such file or directory"),
        (("add", "/dev/null"), 1, "error: /dev/null: not a regular file"),
        (("add", str(KNOWN_ANSWER_GGUF.with_name("facts.toml"))), 1, "neither GGUF nor safetensors"),
        (("add", str(KNOWN_ANSWER_GGUF), "--name", "../x"), 2, "not a valid model name"),
        (("show", "x"), 2, "error: x: no model has this name or digest; the store has: none"),
        (("rm", "x"), 2, "no model has this name"),
        (("verify", "x"), 2, "no model has this name"),
        (("make", "random", "--like", "gpt-9"), 2, "gpt-9: no shape has this name"),
        (("make", "random", "--like", "qwen3-0.6b", "--quant", "q3_k"), 2, "--quant: got 'q3_k', expected one of f16"),
    ],
)
def test_wrong_turns(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], status: int, message: str) -> None:
    out, err = run(capsys, *words, status=status)
    assert message in err and out == ""


def test_removing_from_a_store_that_is_not_there_makes_none(capsys: pytest.CaptureFixture[str], state: Path) -> None:
    assert not (state / "models").exists()
    assert command.main(["model", "rm", "x"]) == 2
    assert "no model has this name" in capsys.readouterr().err
    assert not (state / "models").exists()
