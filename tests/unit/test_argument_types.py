from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from bedplate.cli.argument_types import directory, number, seconds, whole_number
from bedplate.cli.main import main


@pytest.mark.parametrize(
    "command",
    [
        "tune plan",
        "tune apply",
        "tune verify",
        "tune undo",
        "tune confirm",
        "tune log",
        "tune uninstall",
        "guard --release",
        "serve show",
        "serve prepare",
    ],
)
def test_a_root_that_is_not_there_is_refused(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`tune undo` never ended, and `tune plan` planned a machine without anything."""
    with pytest.raises(SystemExit) as end:
        main([*command.split(), "--root", str(tmp_path / "nosuch")])
    assert end.value.code == 2
    assert f"argument --root: {tmp_path}/nosuch: no such directory" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(argparse.ArgumentTypeError, match="file: not a directory"):
        directory(str(tmp_path / "file"))
    assert directory(str(tmp_path)) == tmp_path


@pytest.mark.parametrize(
    ("text", "says"), [("0", "0: expected a whole number from 1 to 64"), ("65", "65: "), ("x", "'x': ")]
)
def test_a_number_out_of_its_range_is_refused_with_the_range(text: str, says: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=says):
        whole_number(1, 64)(text)
    assert (whole_number(1, 64)("1"), whole_number(1, 64)("64"), whole_number(1)("1000000")) == (1, 64, 1_000_000)


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("logs -n -3", "argument -n/--lines: -3: expected a whole number of at least 0"),
        ("serve show --port 99999", "argument --port: 99999: expected a whole number from 1 to 65535"),
        ("selftest --parallel 0", "argument --parallel: 0: expected a whole number from 1 to 64"),
        ("guard --seconds nan", "argument --seconds: nan: expected a number of seconds from 0.001 to 31536000"),
        ("prove --block-s inf", "argument --block-s: inf: expected a number of seconds from 0.001 to 31536000"),
        ("prove --most-foreign nan", "argument --most-foreign: nan: expected a number of percent from 0 to 100"),
        ("prove --scale-time 0", "argument --scale-time: 0: expected a number from 0.001 to 1000"),
    ],
)
def test_numbers_of_verbs_have_a_range(command: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Two were accepted without a word; for the third all 64 numbers were listed."""
    with pytest.raises(SystemExit) as end:
        main(command.split())
    assert end.value.code == 2
    assert capsys.readouterr().err.rstrip().endswith(says)


def test_a_log_is_not_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["logs", "--json"]) == 2
    assert "--json: can only be used with --list" in capsys.readouterr().err


def test_a_number_without_an_upper_bound_has_a_lower_one() -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="-3: expected a whole number of at least 0"):
        whole_number(0)("-3")


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999", "-1", "0", "1e15", "x", "9" * 5000])
def test_a_time_is_a_number_that_a_socket_takes(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected a number of seconds from"):
        seconds(text)


def test_a_number_has_two_ends() -> None:
    assert (seconds("0.5"), number(0, 100)("0"), number(0, 100)("100")) == (0.5, 0.0, 100.0)
    with pytest.raises(argparse.ArgumentTypeError, match="expected a number from 0 to 100"):
        number(0, 100)("nan")


@pytest.mark.parametrize("verb", ["ask hi", "up", "down", "shell -c x"])
@pytest.mark.parametrize("text", ["nan", "inf"])
def test_a_timeout_is_refused_before_anything_is_done(verb: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = main([*verb.split(), "--timeout", text])
    except SystemExit as end:
        status = int(end.code or 0)
    assert status == 2
    assert "--timeout" in capsys.readouterr().err
