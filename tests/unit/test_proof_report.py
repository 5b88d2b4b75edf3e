"""How a proof is rendered: kept shares and what the neighbour paid, from made-up samples; a well-formed, inert page."""

from __future__ import annotations

import dataclasses
import html.parser
import json
import re
from collections.abc import Sequence

import pytest
from tests.unit.json_schema import problems_of

from bedplate.model.proof import Effect, Judgement, Proof, Sample
from bedplate.model.proof_summary import ProofSummary
from bedplate.prove.lab.summary import summarise_proofs, summarise_samples
from bedplate.report.proof.page import render_page
from bedplate.report.proof.phrases import cost, number, percent, seconds, verdict
from bedplate.report.proof.schema import make_proof_schema
from bedplate.report.proof.text import render_table
from bedplate.report.terminal import Screen, columns

COMMAND = "bedplate prove --setting 'neighbour.slice cpu.weight=1' --antagonist cpu"


def sample(arm: str, rate: float, *, round_: int = 1, antagonist: str = "cpu.matrixprod", rejected: str = "") -> Sample:
    """Ten seconds of an engine; the neighbour does 100 operations a second less for each unit that the engine does more."""
    return Sample(
        arm=arm,
        antagonist=antagonist,
        level_pct=100 if antagonist else 0,
        round=round_,
        started_s=round_ * 24.0 + (12.0 if arm == "with" else 0.0),
        duration_s=10.0,
        work=rate * 10,
        seconds=(rate,) * 10,
        gaps_s=tuple(1 / rate * (1 + index / 100) for index in range(100)),
        ttft_s=(),
        e2e_s=(),
        requests=0,
        failed=0,
        late_s=0.0,
        neighbour_work=(200 - rate) * 10 if antagonist else 0.0,
        neighbour_cpu_s=9.0 if antagonist else 0.0,
        idle_cpu_s=1.0,
        foreign_share=0.0,
        rejected=rejected,
    )


def proof(judgement: Judgement, before: float, after: float, *, rejected: str = "", subject: str = "cpu.weight=1") -> Proof:
    samples = [sample("without", 100, round_=0, antagonist="")]
    for number_ in range(1, 5):
        samples += [sample("without", before, round_=number_), sample("with", after, round_=number_)]
    if rejected:
        samples.append(sample("with", 1, round_=5, rejected=rejected))
    ratio = after / before
    rate = Effect(
        metric="rate",
        unit="/s",
        higher_is_better=True,
        without=before,
        with_=after,
        ratio=ratio,
        low=ratio * 0.99,
        high=ratio * 1.01,
        p=0.008,
        pairs=4,
    )
    return Proof(
        subject=subject,
        judgement=judgement,
        because="Because of the numbers.",
        effects=(rate,),
        antagonists=("cpu.matrixprod",),
        victim="dispatch-loop",
        kernel="6.12",
        driver="",
        engine="",
        machine="2 CPUs",
        made="2026-11-24T22:00:00+00:00",
        seed=7,
        command=COMMAND,
        samples=tuple(samples),
    )


def many_arms() -> ProofSummary:
    samples = [sample(arm, 100, antagonist="") for arm in ("stock", "nice -10", "bedplate")]
    for antagonist, rates in (("cpu.matrixprod", (28, 80, 98)), ("io.randread", (40, 41, 93))):
        for arm, rate in zip(("stock", "nice -10", "bedplate"), rates, strict=True):
            samples += [sample(arm, rate + step, antagonist=antagonist, round_=step) for step in range(3)]
    return summarise_samples(
        samples, title="what protects", arms=("stock", "nice -10", "bedplate"), command="python -m bench"
    )


def test_kept_is_the_share_of_the_quiet_rate() -> None:
    (scenario,) = summarise_proofs([proof(Judgement.KEEP, 29, 98)]).scenarios
    before, after = scenario.results
    assert (before.kept, after.kept) == (0.29, 0.98)
    assert (before.blocks, after.blocks) == (4, 4)
    assert before.times_p99 == pytest.approx(100 / 29)
    assert after.neighbour == pytest.approx((200 - 98) / (200 - 29))
    assert after.left_over == 0.9


@pytest.mark.parametrize(
    ("judgement", "before", "after", "first"),
    [
        (
            Judgement.KEEP,
            29,
            98,
            "The change helps: the engine keeps 98% of its quiet speed beside matrix products on every CPU, and 29%",
        ),
        (Judgement.NO_EFFECT, 97, 97, "No effect was shown: the engine keeps 97%"),
        (Judgement.REVERT, 90, 40, "The change harms: the engine keeps 40%"),
        (Judgement.REFUSED, 90, 40, "Not judged: Because of the numbers."),
    ],
)
def test_the_first_line_says_what_it_is_worth(judgement: Judgement, before: float, after: float, first: str) -> None:
    summary = summarise_proofs([proof(judgement, before, after)])
    assert verdict(summary).startswith(first)
    assert render_table(summary, Screen(width=100)).splitlines()[0] == f"{judgement.value}: cpu.weight=1"
    assert first[:40] in render_page(summary, version="1")


def test_the_cost_to_the_neighbour_is_said() -> None:
    assert cost(summarise_proofs([proof(Judgement.KEEP, 29, 98)])) == (
        "The neighbour did 40% less of its own work; it got 90% of the CPU time that the engine left over."
    )


def test_harm_beside_one_neighbour_is_the_verdict() -> None:
    proofs = [proof(Judgement.KEEP, 29, 98), proof(Judgement.REVERT, 90, 50), proof(Judgement.REFUSED, 1, 1)]
    assert summarise_proofs(proofs).judgement is Judgement.REVERT


def test_rejected_blocks_do_not_count_and_are_told() -> None:
    summary = summarise_proofs([proof(Judgement.KEEP, 29, 98, rejected="foreign load: 12%")])
    assert [result.blocks for result in summary.scenarios[0].results] == [4, 4]
    assert "8 blocks counted, 1 rejected." in render_table(summary, Screen())
    assert "foreign load: 12%" in render_page(summary, version="1")


def test_other_work_on_the_machine_is_told_where_it_counts() -> None:
    busy = dataclasses.replace(sample("stock", 90, antagonist=""), foreign_share=0.4)
    summary = summarise_samples([busy, sample("stock", 95)], title="t", arms=("stock",))
    assert "Other work took up to 40% of the CPUs" in render_table(summary, Screen(width=200))
    assert "Other work took up to 40% of the CPUs" in render_page(summary, version="1")
    assert "Other work" not in render_table(many_arms(), Screen(width=200))


def test_a_study_without_a_block_that_counts_is_rendered() -> None:
    lost = [sample("without", 50, rejected="late"), sample("with", 50, rejected="late")]
    summary = summarise_samples(lost, title="t", arms=("without", "with"))
    assert "No block counts." in render_table(summary, Screen())
    assert "No block counts." in render_page(summary, version="1")


@pytest.mark.parametrize("width", [24, 40, 60, 80, 100, 160])
@pytest.mark.parametrize("summary", [summarise_proofs([proof(Judgement.KEEP, 29, 98)]), many_arms()])
def test_tables_fit_the_terminal(width: int, summary: ProofSummary) -> None:
    lines = render_table(summary, Screen(width=width)).splitlines()
    assert all(columns(line) <= width for line in lines if not line.startswith("again: "))
    assert all("\033" not in line for line in lines)
    assert "\033" in render_table(summary, Screen(width=width, colour=True))


def test_ascii_terminals_get_ascii() -> None:
    assert render_table(many_arms(), Screen(utf8=False)).isascii()


class Page(html.parser.HTMLParser):
    """Counts elements, and insists that each one that is opened is closed, in order."""

    VOID = frozenset({"meta", "br", "rect", "path", "line", "circle"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


@pytest.mark.parametrize(
    "summary",
    [
        summarise_proofs([proof(Judgement.KEEP, 29, 98)]),
        summarise_proofs([proof(Judgement.KEEP, 29, 98), proof(Judgement.REFUSED, 5, 5)] * 3),
        many_arms(),
    ],
)
def test_the_page_is_well_formed_and_asks_for_nothing(summary: ProofSummary) -> None:
    text = render_page(summary, version="1")
    page = Page()
    page.feed(text)
    assert page.open == []
    assert not {"script", "img", "link", "iframe", "object", "form"} & set(page.seen)
    names = {name for name, _ in page.attributes}
    assert not {"src", "href"} & names
    assert not any(name.startswith("on") for name in names)
    assert "nan" not in re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)
    assert page.seen.count("svg") % 2 == 0  # each chart wide and narrow


def test_proofs_as_json_fit_their_schema() -> None:
    proofs = [proof(Judgement.KEEP, 29, 98), proof(Judgement.REFUSED, 1, 1, rejected="late")]
    record = {"schema": 1, "judgement": "keep", "proofs": [dataclasses.asdict(proof) for proof in proofs]}
    record = json.loads(json.dumps(record))
    schema = make_proof_schema()
    assert list(problems_of(record, schema, schema)) == []
    record["proofs"][0]["samples"][0]["work"] = "much"
    assert list(problems_of(record, schema, schema))


def test_hostile_names_stay_text() -> None:
    summary = summarise_proofs([proof(Judgement.KEEP, 29, 98, subject="<script>\x1b[31m\u202e</script>")])
    assert "<script>" not in render_page(summary, version="1")
    assert "\x1b" not in render_page(summary, version="1")
    assert "\x1b" not in render_table(summary, Screen())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (percent(0.0431), "4.3%"),
        (percent(0.973), "97%"),
        (percent(0.0), "0%"),
        (number(12345.6), "12,300"),
        (number(0.01234), "0.0123"),
        (number(0), "0"),
        (seconds(0.00034), "340 µs"),
        (seconds(0.0274), "27.4 ms"),
        (seconds(1.062), "1.06 s"),
    ],
)
def test_short_numbers(text: str, expected: str) -> None:
    assert text == expected
