"""The boot's timeline, from what a guest prints."""

from __future__ import annotations

import pytest
from bench.timeline import Timeline, beside, chain, parse_times, render_page

from bedplate.errors import ReadError

SAID = """[    4.500000] Run /init as init process
bench-next
UserspaceTimestampMonotonic=8000000
GeneratorsStartTimestampMonotonic=9000000
UnitsLoadFinishTimestampMonotonic=10000000
bench-next
Id=bedplate-serve.service
InactiveExitTimestampMonotonic=11000000
ActiveEnterTimestampMonotonic=13000000
ExecMainStartTimestampMonotonic=11100000

Id=bedplate-layer@dev-vdb.service
InactiveExitTimestampMonotonic=13100000
ActiveEnterTimestampMonotonic=14000000
ExecMainStartTimestampMonotonic=13100000

Id=bedplate-engine@known-answer.service
InactiveExitTimestampMonotonic=14100000
ActiveEnterTimestampMonotonic=14100000
ExecMainStartTimestampMonotonic=14200000

Id=var.mount
InactiveExitTimestampMonotonic=12000000
ActiveEnterTimestampMonotonic=40000000

Id=after.service
InactiveExitTimestampMonotonic=30000000
ActiveEnterTimestampMonotonic=31000000
ExecMainStartTimestampMonotonic=30000000

Id=never.service
InactiveExitTimestampMonotonic=0
ActiveEnterTimestampMonotonic=0
ExecMainStartTimestampMonotonic=0
"""
LINE = Timeline(boot="first", clock_s=2.0, token_s=20.0, guest=parse_times(SAID))


def test_the_steps_fill_the_time_from_power_on_to_the_first_token() -> None:
    steps = chain(LINE)
    assert [until for _, until in steps] == [2.0, 6.5, 10.0, 11.0, 12.0, 13.0, 15.0, 16.0, 16.2, 20.0]
    assert "verified root" in steps[2][0]


def test_a_step_that_nobody_waited_for_is_left_out() -> None:
    late = Timeline(boot="later", clock_s=2.0, token_s=20.0, guest=parse_times(SAID.replace("=14000000", "=17000000")))
    assert not any("layer" in name for name, _ in chain(late))
    assert chain(late)[-1][1] == 20.0


def test_what_starts_beside_it_is_listed_until_the_first_token() -> None:
    assert [unit.name for unit in beside(LINE)] == ["var.mount", "bedplate-serve.service", "bedplate-layer@dev-vdb.service"]
    page = render_page((LINE,), provenance="Measured.")
    assert "| 14.0 s | 6.0 s, not active yet | `var.mount` |" in page
    assert "| 20.0 s | 3.8 s | the engine loads the model, and answers |" in page


def test_a_guest_that_does_not_tell_is_an_error() -> None:
    with pytest.raises(ReadError, match="did not tell its times"):
        parse_times("bash: dmesg: not found\n")
    with pytest.raises(ReadError, match="when it started"):
        parse_times(SAID.replace("UserspaceTimestampMonotonic=8000000\n", ""))
