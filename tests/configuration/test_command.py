"""`bedplate config` as people type it: what it prints, its JSON, its exit status; and its page."""

from __future__ import annotations

import argparse
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from bedplate.catalog.machine_config import parse_machine_config
from bedplate.cli import config as command
from bedplate.cli.main import main
from bedplate.flows.status import _read_config
from bedplate.host.root.root import Root
from bedplate.report.status import _config
from tests.configuration.machine import FULL, Silence, make_machine, put

PAGE = (Path(__file__).parents[2] / "docs/how-to/configure.md").read_text()
COMMANDS = re.findall(r"(?:^    |`)(bedplate config [^`\n]+)", PAGE, re.MULTILINE)
FILES = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def machine(tree: Path) -> Path:
    return make_machine(tree / "box")


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    status = main(["config", *map(str, words)])
    out, err = capsys.readouterr()
    return status, out, err


def run_json(capsys: pytest.CaptureFixture[str], *words: object) -> Any:
    status, out, _ = run(capsys, *words, "--json")
    assert status == 0
    return json.loads(out)


@pytest.mark.parametrize("line", COMMANDS)
def test_each_command_of_the_page_is_one_of_bedplate(line: str) -> None:
    parser = argparse.ArgumentParser(prog="bedplate config")
    command.add_arguments(parser)
    parser.parse_args(shlex.split(line.partition(" > ")[0].replace("--root DIR", "--root /"))[2:])


@pytest.mark.parametrize("text", FILES)
def test_each_file_of_the_page_is_a_machine_toml(text: str) -> None:
    assert parse_machine_config(text, name="machine.toml")


def test_from_a_file_to_what_is_in_force(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, root = put(machine, FULL), ("--root", machine)
    assert run(capsys, "check", file)[:2] == (0, run(capsys, "check", file)[1])
    assert run_json(capsys, "check", file)["sequence"] == 12

    status, out, _ = run(capsys, "diff", file, *root)
    assert status == 0
    assert 'name: "" -> "rack3-07"\n' in out and "then    reload systemd-networkd.service\n" in out
    assert "write   /etc/systemd/network/40-bedplate-eno1.network\n" in out
    plan = run_json(capsys, "diff", file, *root)
    assert {"path": "/etc/hostname", "table": "name", "what": "replace"} in plan["files"]
    assert run_json(capsys, "apply", file, "--dry-run", *root)["files"] == plan["files"]
    assert run(capsys, "history", *root)[1] == "Nothing was applied on this machine.\n", "nothing was changed so far"

    status, out, _ = run(capsys, "apply", file, *root)
    assert status == 0 and "Configuration 1 is in force (sequence 12, sha256 " in out
    assert run(capsys, "apply", file, *root)[1] == "The configuration is in force already.\n"
    assert run(capsys, "diff", file, *root)[1] == "Nothing would change: the configuration is in force.\n"

    shown = run_json(capsys, "show", *root)
    assert (shown["source"], shown["changed_by_hand"], shown["waits"]) == ("/var/lib/bedplate/machine.toml", False, False)
    assert shown["values"]["log.keep_days"] == 30 and shown["in_force"]["sequence"] == 12
    text = run(capsys, "show", *root)[1]
    assert 'name = "rack3-07"\n' in text and "front.port" not in text
    assert "front.port = 8080\n" in run(capsys, "show", "--all", *root)[1]

    (row,) = run_json(capsys, "history", *root)
    assert (row["number"], row["what"], row["source"]) == (1, "applied", str(file)) and len(row["sha256"]) == 64
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ +1  applied", run(capsys, "history", *root)[1])


def test_restore_writes_what_is_not_there(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "apply", put(machine, FULL), "--root", machine)
    (machine / "etc/hostname").unlink()
    assert run_json(capsys, "restore", "--root", machine) == {"files": [{"path": "/etc/hostname", "what": "write"}]}
    assert (machine / "etc/hostname").read_text() == "rack3-07\n"
    assert run(capsys, "restore", "--root", machine)[1] == "All files of the configuration are there.\n"


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("confirm",), 8, "no configuration waits to be confirmed"),
        (("revert",), 8, "no configuration waits to be confirmed"),
        (("revert", "--unless-confirmed"), 0, ""),
        (("apply", "FILE", "--confirm-within", "1s"), 2, "--confirm-within: got '1s', expected a time from 10s to 7 days"),
        (("apply", "MISSING"), 1, "cannot read: No such file or directory"),
        (("check", "WRONG"), 1, "front.prot: unknown key; did you mean 'port'?"),
        (("apply", "SECRET"), 1, "line 1 holds what looks like a secret"),
        (("show", "--root", "/nowhere"), 2, "/nowhere"),
    ],
)
def test_what_goes_wrong_is_told(
    machine: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], status: int, said: str
) -> None:
    files = {
        "FILE": put(machine, FULL),
        "MISSING": machine / "missing.toml",
        "WRONG": put(machine, "[front]\nprot = 1\n", "wrong.toml"),
        "SECRET": put(machine, "# https://ann:hunter2@example.org/\n", "secret.toml"),
    }
    root = () if words[0] == "check" or "--root" in words else ("--root", machine)
    try:
        got, out, err = run(capsys, *(files.get(word, word) for word in words), *root)
    except SystemExit as error:  # of argparse
        got, (out, err) = int(str(error.code)), capsys.readouterr()
    assert got == status
    assert said in out + err and "hunter2" not in out + err


def test_the_schema_is_that_of_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    page = Path(__file__).parents[2] / "docs/reference/machine.schema.json"
    assert run(capsys, "schema") == (0, page.read_text(), "")


def test_a_signed_file_is_the_same_text_with_one_more_line(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, signed, key = tree / "machine.toml", tree / "signed.toml", tree / "config.key"
    source.write_text(FULL)
    status, line, _ = run(capsys, "make-key", key)
    assert status == 0 and re.fullmatch(r"owner ed25519 [A-Za-z0-9+/]{43}=\n", line)
    assert key.stat().st_mode & 0o777 == 0o600
    assert run(capsys, "sign", source, "--key", key, "--output", signed)[0] == 0
    assert signed.read_text().startswith(FULL + "# signature: ed25519 ")
    assert run(capsys, "check", signed)[0] == 0
    for path, said in ((signed, "has a signature already"), (put(tree, "name = 'a'\n"), "sequence: got 0, expected 1")):
        status, _, err = run(capsys, "sign", path, "--key", key, "--output", tree / "again.toml")
        assert status == 2 and said in err
    assert not (tree / "again.toml").exists()


def test_the_owners_own_key_goes_into_new_images(
    tree: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BEDPLATE_STATE_DIR", str(tree / "state"))
    monkeypatch.setenv("BEDPLATE_CACHE_DIR", str(tree / "cache"))
    line = run(capsys, "make-key")[1]
    assert (tree / "state/keys/config.keys").read_text() == line
    status, _, err = run(capsys, "make-key")
    assert status == 2 and "a key is never overwritten" in err
    source = put(tree, FULL)
    assert run(capsys, "sign", source, "--output", tree / "signed.toml")[0] == 0
    # As a run leaves it that is killed in between, where the line of a colleague was pasted without its end.
    colleague = f"ann {line.split(maxsplit=1)[1].strip().replace('=', '')[:-2]}AA="
    (tree / "state/keys/config.keys").write_text(colleague)
    assert run(capsys, "make-key")[:2] == (0, line)
    assert (tree / "state/keys/config.keys").read_text() == f"{colleague}\n{line}"


def test_status_names_what_is_in_force(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _config(_read_config(Root(machine), Silence())) == []
    run(capsys, "apply", put(machine, FULL), "--root", machine)
    (line,) = _config(_read_config(Root(machine), Silence()))
    assert re.fullmatch(r"config    number 1, sequence 12, sha256 [0-9a-f]{12}, applied at \S+Z by \w+", line)
    assert "bedplate config confirm" in _config({**_read_config(Root(machine), Silence()), "waits": True})[1]
