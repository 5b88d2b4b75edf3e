"""Logs of engines: each sentence that says how an engine runs is a finding, also behind what another program writes."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from tests.unit.audit_cases import cases
from tests.unit.facts_factory import make_engine, make_facts
from tests.unit.pasted_cases import judge, read_bytes

from bedplate.host.formats.engine_log import _WORDS
from bedplate.model.facts.finding import Severity
from bedplate.model.facts.system import EngineNoteKind
from bedplate.plan.rules.checks.engine_log import ROWS, check_engine_notes, check_engine_options

LINES = {
    row["id"]: (row["text"], row["engine"])
    for row in tomllib.loads((Path(__file__).parents[1] / "engine_logs.toml").read_text())["line"]
}
VLLM = "(EngineCore pid=253) INFO 01-05 01:02:03 "
# A server's own chatter, which says nothing of this.
HEALTHY = (
    f"{VLLM}[gpu_worker.py:200] Available KV cache memory: 50.11 GiB\n"
    f"{VLLM}[kv_cache_utils.py:800] Maximum concurrency for 8,192 tokens per request: 80.21x\n"
    f"{VLLM}[vllm.py:624] Asynchronous scheduling is enabled.\n"
)


@pytest.mark.parametrize("id", LINES)
@pytest.mark.parametrize("before", ["", "Jan 05 01:02:03 node7 vllm[4711]: ", "vllm-1  | "])
def test_a_line_of_an_engine_is_a_finding(id: str, before: str, tmp_path: Path) -> None:
    line, engine = LINES[id]
    facts = read_bytes(f"{before}{line}\n".encode(), tmp_path)
    (finding,) = (finding for finding in judge(facts).findings if finding.id.startswith("engine."))
    assert finding.id == id
    assert engine in finding.title or id == "engine.newer-toolchain"
    assert [evidence.source for evidence in finding.evidence] == [f"log of {engine}"]
    assert finding.evidence[0].fact in line


def test_every_line_among_others_is_found_once(tmp_path: Path) -> None:
    text = HEALTHY + "".join(f"{line}\n{line}\n" for line, _ in LINES.values())
    found = [finding.id for finding in judge(read_bytes(text.encode(), tmp_path)).findings]
    assert sorted(id for id in found if id.startswith("engine.")) == sorted(LINES)


def test_a_healthy_log_has_no_finding(tmp_path: Path) -> None:
    assert [finding.id for finding in judge(read_bytes(HEALTHY.encode(), tmp_path)).findings] == []


def test_every_kind_of_note_has_a_row_and_every_sentence_a_kind() -> None:
    assert set(ROWS) == set(EngineNoteKind)
    assert {kind for _, kind, _ in _WORDS} | {EngineNoteKind.PARTLY_OFFLOADED, EngineNoteKind.KV_CACHE_SMALL} == set(ROWS)
    assert len({row.id for row in ROWS.values()}) == len(ROWS)


@pytest.mark.parametrize("id", LINES)
def test_the_fix_of_a_note_is_right(id: str, tmp_path: Path) -> None:
    facts = read_bytes(LINES[id][0].encode() + b"\n", tmp_path)
    assert [case.id for case in cases(check_engine_notes, facts)] == [id]


@pytest.mark.parametrize(
    ("argv", "ids"),
    [
        (("vllm", "serve", "m", "--enforce-eager"), ["engine.eager"]),
        (("sglang", "serve", "--disable-cuda-graph"), ["engine.eager"]),
        (("vllm", "serve", "m", "--cpu-offload-gb", "8"), ["engine.weights-on-host"]),
        (("vllm", "serve", "m", "--cpu-offload-gb=0.5", "--enforce-eager"), ["engine.eager", "engine.weights-on-host"]),
        (("vllm", "serve", "m", "--cpu-offload-gb", "0"), []),
        (("vllm", "serve", "m"), []),
    ],
)
def test_options_of_a_running_engine_say_the_same(argv: tuple[str, ...], ids: list[str]) -> None:
    found = cases(check_engine_options, make_facts(engines=(make_engine(argv=argv),)))
    assert [case.id for case in found] == ids
    for case in found:
        assert case.where == ("pid 4711",) and case.severity in (Severity.LOW, Severity.HIGH)
