"""Policies: rows with aims and forbidden knobs, never with values; wrong rows are told with their key."""

from __future__ import annotations

import pytest

from bedplate.catalog.knobs import read_knobs
from bedplate.catalog.policies import find_policy, parse_policies, read_policies
from bedplate.errors import DataError
from bedplate.model.tuning import Policy

ROW = """[[policy]]
id = "{id}"
title = "Title"
aim = "Aim."
neighbours = "share"
system_pct = 10
parts = ["weights"]
"""
GOOD = "schema = 1\n" + "".join(ROW.format(id=policy) for policy in Policy)


def test_every_policy_has_a_row_and_forbids_knobs_that_exist() -> None:
    rows, knobs = read_policies(), {knob.id for knob in read_knobs()}
    assert [row.id for row in rows] == list(Policy)
    for row in rows:
        assert set(row.forbid) <= knobs, row.id
    assert "pci.acs" in find_policy(Policy.CONFIDENTIAL, rows).forbid


WRONG = {
    "an unknown key": (
        GOOD.replace("neighbours", "neighbors", 1),
        "shared-host.neighbors: unknown key; did you mean",
    ),
    "a value": (GOOD + "cpu_weight = 10000\n", "edge.cpu_weight: unknown key"),
    "a floor above the system's share": (
        GOOD.replace("system_pct = 10", 'system_pct = 10\nfloor_pct = 10\nfloor_cost = "much"', 1),
        "shared-host.floor_pct: got 10, expected 0 to less than system_pct",
    ),
    "a floor whose cost nobody measured": (
        GOOD.replace("system_pct = 10", "system_pct = 10\nfloor_pct = 5", 1),
        "shared-host.floor_cost: expected what was measured",
    ),
    "a floor for those that yield": (
        GOOD.replace('"share"\nsystem_pct = 10', '"yield"\nsystem_pct = 10\nfloor_pct = 5\nfloor_cost = "some"', 1),
        "shared-host.floor_pct: neighbours that yield have no floor",
    ),
    "administrators without a share": (
        GOOD.replace("system_pct = 10", "system_pct = 0", 1),
        "shared-host.system_pct: got 0, expected 1 to 50",
    ),
    "an unknown part": (
        GOOD.replace('["weights"]', '["wheels"]', 1),
        "shared-host.parts: got 'wheels', expected some of weights",
    ),
    "parts out of order": (
        GOOD.replace('["weights"]', '["io", "memory"]', 1),
        "shared-host.parts: expected each once",
    ),
    "no parts": (GOOD.replace('["weights"]', "[]", 1), "shared-host.parts: is empty"),
    "forbidden for no reason": (GOOD + 'forbid = ["mem.swap"]\n', "edge.because: expected a reason"),
    "twice": (GOOD + ROW.format(id="edge"), "edge.id: appears twice"),
    "one too few": (GOOD.replace(ROW.format(id="edge"), ""), "policy: edge has no row"),
    "an unknown policy": (GOOD.replace('"edge"', '"desktop"'), "desktop.id: got 'desktop', expected one of shared-host"),
    "another schema": (GOOD.replace("schema = 1", "schema = 2"), "schema: got 2, expected 1"),
    "no TOML": ("schema = ", "not TOML"),
    "no tables": ("schema = 1\npolicy = 3\n", "expected [[policy]] tables"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_row_is_told_with_its_key(name: str) -> None:
    text, message = WRONG[name]
    with pytest.raises(DataError) as caught:
        parse_policies(text, name="policies.toml")
    assert "policies.toml:" in str(caught.value)
    assert message in str(caught.value)


def test_rows_that_are_right_are_read() -> None:
    assert len(parse_policies(GOOD, name="policies.toml")) == len(Policy)
