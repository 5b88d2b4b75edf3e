"""Some seconds of what `python -m tests.fuzz.hostile_http` does for minutes."""

from __future__ import annotations

import pytest

from tests.fuzz.hostile_http import CANARY, CONFIGURATION, attack, check_log
from tests.serving.closed_front import ClosedFront, MakeFront

pytestmark = pytest.mark.build


@pytest.fixture(scope="module")
def front(make_front: MakeFront) -> ClosedFront:
    machine = make_front(CONFIGURATION)
    machine.start()
    machine.start_engine()
    return machine


def test_hostile_requests_reach_no_other_model_and_forge_no_line(front: ClosedFront) -> None:
    told = attack(front, front.add_key(requests_per_minute=0, concurrency=0), seed=7, count=3000)
    assert told.faults == []
    assert told.statuses["200"] > 10 and told.statuses["400"] > 100, "the front was asked, and not only refused"


def test_a_forged_line_would_be_seen(front: ClosedFront) -> None:
    assert check_log(front) == []
    with (front.top / "front.log").open("a") as log:
        log.write('{"time": "x", "id": "forged", "key": "' + CANARY.decode() + '"}\n{"time": \n')
    faults = check_log(front)
    assert len(faults) == 3, faults
