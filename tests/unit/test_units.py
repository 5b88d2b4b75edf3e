"""Sizes and times as people, the kernel and other programs write them."""

from __future__ import annotations

import pytest

from bedplate.cli.main import main
from bedplate.model.units import GIB, KIB, MIB, parse_duration, parse_size, render_size


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("4096", 4096),
        ("0", 0),
        ("512M", 512 * MIB),
        ("512 mib", 512 * MIB),
        ("1.5 GiB", 3 * GIB // 2),
        ("32768K", 32 * MIB),
        (" 7B\n", 7),
        ("2P", 2 * 1024**5),
        ("1.0005k", KIB),
        ("9007199254740993", 9007199254740993),  # a float would have dropped the last
    ],
)
def test_a_size_is_read(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["", "K", "1.5.2", "-1", "1e3", "4 parsecs", "0x10", "٣", "9" * 400])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size such as 512M or 4G"):
        parse_size(text)


def test_a_size_without_end_is_a_wrong_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["up", "--memory", "9" * 400])
    assert ended.value.code == 2
    assert "is not a size" in capsys.readouterr().err


@pytest.mark.parametrize("size_bytes", [7, 3 * KIB, 98 * MIB, 16 * GIB])
def test_what_is_shown_reads_back(size_bytes: int) -> None:
    assert parse_size(render_size(size_bytes)) == size_bytes


@pytest.mark.parametrize(
    ("text", "duration_s"),
    [("90s", 90.0), ("10m", 600.0), ("10 min", 600.0), ("1.5h", 5400.0), ("30", 30.0), (" 2h\n", 7200.0), ("0", 0.0)],
)
def test_a_time_is_read(text: str, duration_s: float) -> None:
    assert parse_duration(text) == duration_s


@pytest.mark.parametrize("text", ["", "m", "-1s", "1e3", "10 parsecs", "1h30m", "٣s", "9" * 400])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time such as 90s, 10m or 2h"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["9s", "8h0", "8d", "169h", "nan", "0"])
def test_the_time_to_confirm_has_bounds(capsys: pytest.CaptureFixture[str], text: str) -> None:
    assert main(["tune", "apply", "--confirm-within", text]) == 2
    assert f"--confirm-within: got {text!r}, expected a time from 10s to 7 days" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0", "0s", "soon"])
def test_a_budget_is_a_time(capsys: pytest.CaptureFixture[str], text: str) -> None:
    assert main(["prove", "--setting", "vm.stat_interval=10", "--budget", text]) == 2
    assert f"--budget: got {text!r}, expected a time such as 20m, 90s or 1h" in capsys.readouterr().err
