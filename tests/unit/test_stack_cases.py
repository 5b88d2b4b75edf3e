"""Real cases, from public threads, vendors' documents, metadata and builds: a no names the true cause."""

from __future__ import annotations

import functools
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from bedplate.catalog.drop_ins import read_shipped
from bedplate.catalog.stack import STACK_DIRECTORY, parse_stack
from bedplate.catalog.stack_wish import make_hardware, make_wish, parse_wish
from bedplate.model.stack import StackCatalogue, StackConflict, StackHardware, StackLock
from bedplate.plan.resolve.resolve import judge_stack, resolve

HERE = Path(__file__).parents[1] / "stack"
CASES: list[dict[str, Any]] = tomllib.loads((HERE / "cases.toml").read_text())["case"]


@functools.cache
def catalogue(drop_in: str | None) -> StackCatalogue:
    paths = [*sorted(STACK_DIRECTORY.glob("*.toml")), *([HERE / drop_in] if drop_in else [])]
    return parse_stack(map(read_shipped, paths))


def as_toml(wish: dict[str, Any]) -> str:
    """The wish of a case as the file that a user writes; JSON's texts, lists and booleans are TOML's."""
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in {"schema": 1, **wish}.items())


def answer(case: dict[str, Any]) -> tuple[StackLock | StackConflict, StackHardware, StackCatalogue]:
    rows = catalogue(case.get("drop_in"))
    file = parse_wish(as_toml(case["wish"]), name="wish.toml")
    hardware = make_hardware(file.accelerators, file.host, rows)
    return resolve(make_wish(file), hardware, rows), hardware, rows


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_a_real_case_is_answered_with_its_true_cause(case: dict[str, Any]) -> None:
    result, hardware, rows = answer(case)
    assert isinstance(result, StackLock) is case["possible"], result
    if isinstance(result, StackLock):
        releases = {(choice.release.component, choice.layer): choice.release for choice in result.choices}
        assert judge_stack(releases, hardware, rows) == ()
        return
    told = "\n".join(link.sentence for link in result.chain)
    assert set(case.get("facts", [])) <= {link.fact for link in result.chain}, told
    assert [words for words in case["words"] if words not in told] == [], told
    near = "\n".join(nearest.sentence for nearest in result.nearest)
    assert [words for words in case.get("nearest", []) if words not in near] == [], near


def test_every_case_is_there_once() -> None:
    assert len(CASES) == 52
    assert len({case["id"] for case in CASES}) == 52
