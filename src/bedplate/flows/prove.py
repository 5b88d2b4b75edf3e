"""Measure what a change is worth on this host beside a noisy neighbour, or what its engine is sensitive to.

One experiment at a time: the change is turned on and off in blocks, and is taken back at the end, however that comes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bedplate import __version__
from bedplate.act.paths import find_paths
from bedplate.catalog.antagonists import choose_antagonists, read_antagonists
from bedplate.errors import UsageError
from bedplate.flows.candidate import knob_plan, setting_plan, whole_plan
from bedplate.flows.pages import write_page
from bedplate.flows.victim import DispatchRequest, EngineRequest, find_place, make_victim
from bedplate.host.root.root import Root
from bedplate.model.progress import Progress
from bedplate.model.proof import Antagonist, Judgement, Proof
from bedplate.model.proof_summary import ProofSummary
from bedplate.model.tuning import Plan, Policy
from bedplate.model.units import render_seconds
from bedplate.model.wording import plural
from bedplate.prove.gauge.conditions import read_conditions
from bedplate.prove.gauge.judge import Rules
from bedplate.prove.gauge.punctual import in_memory
from bedplate.prove.lab.antagonists import Scratch, prepared, read_scale, require
from bedplate.prove.lab.antagonists.fill import Scale
from bedplate.prove.lab.experiment import Neighbour, overall, run_experiment
from bedplate.prove.lab.ledger import Record, proofs_directory, read_proofs, write_proof
from bedplate.prove.lab.schedule import Timing, time_blocks
from bedplate.prove.lab.sensitivity import Profile, busy_share
from bedplate.prove.lab.sensitivity import probe as probe_neighbours
from bedplate.prove.lab.summary import summarise_proofs
from bedplate.prove.lab.switch import PlanSwitch, check_provable, keep_applied, one_experiment
from bedplate.prove.lab.victims import Victim
from bedplate.report.proof.page import render_page

_KINDS = ("cpu",)
_LEVEL_PCT, _PAIRS = 100, 10
QUIET = "none"
"""The word for no neighbour."""
_PROBE_KINDS = ("cpu", "memory", "bandwidth", "io", "pagecache", "network")
_PROBE_LEVEL_PCT, _PROBE_PAIRS = 10, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectRequest:
    """What is to be proved: a setting, else a knob, else the whole plan of this host."""

    setting: tuple[str, str] | None = None
    """("vm.stat_interval", "10")."""
    knob: str | None = None
    policy: Policy = Policy.SHARED_HOST


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentRequest:
    """How a change is measured: the victim, the neighbours beside it, and how long and how often."""

    victim: DispatchRequest | EngineRequest
    seed: int
    """Of the order of blocks, the load and the tests."""
    antagonists: tuple[str, ...] | None = None
    """Ids or kinds of the catalog, one after the other; (): a quiet machine, None: what is usual."""
    level_pct: int | None = None
    """Of the resource; None: what is usual."""
    neighbour_place: tuple[str, ...] = ()
    """A slice, or directories of control groups; (): neighbour.slice where systemd runs."""
    scratch: Path = Path("/var/tmp")
    budget_s: float = 1200.0
    pairs: int | None = None
    block_s: float | None = None
    most_foreign: float = 0.05
    """Share of the CPUs that others may take before a block does not count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProveOutcome:
    """How an experiment ended, beside each neighbour and over all of them."""

    proofs: tuple[Proof, ...]
    """One for each neighbour; () for a dry run."""
    kept: bool
    """Whether the change is left applied."""

    @property
    def judgement(self) -> Judgement:
        """The verdict over all neighbours: harm beside any of them reverts, a gain beside some and harm nowhere keeps.

        Without proofs, as after a dry run, it is REFUSED.
        """
        return overall(self.proofs)

    @property
    def summary(self) -> ProofSummary:
        """For a reader. Raises ValueError without proofs."""
        return summarise_proofs(self.proofs)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofRecords:
    """The proofs that this host keeps; `records` is () where there are none, or no directory yet."""

    directory: Path
    records: tuple[Record, ...]
    """Oldest first, each with the reason why it does not hold any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Neighbours:
    """The antagonists of an experiment, the rows of the catalog, and the level of each."""

    chosen: tuple[Antagonist, ...]
    rows: tuple[Antagonist, ...]
    level_pct: int

    @property
    def names(self) -> str:
        return ", ".join(row.id for row in self.chosen)

    def with_parts(self) -> list[Antagonist]:
        return [row for chosen in self.chosen for row in (chosen, *(part for part in self.rows if part.id in chosen.parts))]


def prove(
    subject: SubjectRequest,
    request: ExperimentRequest,
    progress: Progress,
    *,
    command: str,
    primary: str = "rate",
    keep: bool = False,
    dry_run: bool = False,
) -> ProveOutcome:
    """Measure what a change is worth beside each neighbour, and keep a record of each verdict.

    command: makes the experiment again; it goes into the record. primary: the metric that must gain. keep: leave the change
    applied when the verdict is keep. dry_run: only say what would be done. Raises PreflightError for what cannot be proved
    on this host, BusyError beside another experiment.
    """
    with ExitStack() as stack:
        if not dry_run:  # from before the plan: what a killed experiment left on would be taken for the host's own
            stack.enter_context(one_experiment())
        name, plan = _find_plan(subject)
        neighbours = _find_neighbours(request, _KINDS, _LEVEL_PCT)
        timing = _time_blocks(request, neighbours, _PAIRS)
        check_provable(plan)
        victim, conditions = make_victim(request.victim, progress, seed=request.seed, budget_s=request.budget_s)
        for line in _outline(name, plan, neighbours, victim, timing, request.seed):
            progress.note(line)
        if dry_run:
            return ProveOutcome(proofs=(), kept=False)
        _warn_when_busy(request, progress)
        switch = PlanSwitch(plan)
        proofs: list[Proof] = []
        rules = Rules(primary=primary, families=max(1, len(neighbours.chosen)))
        with ExitStack() as experiment:
            experiment.enter_context(in_memory(progress.note))
            experiment.callback(switch.close)
            make_neighbour = _prepare(request, neighbours, experiment, progress)
            experiment.callback(victim.close)
            victim.start()
            beside: Sequence[Antagonist | None] = neighbours.chosen or (None,)
            for antagonist in beside:
                with progress.phase(f"{name} beside {antagonist.id if antagonist is not None else 'no neighbour'}"):
                    proof = run_experiment(
                        subject=name,
                        switch=switch,
                        victim=victim,
                        neighbour=make_neighbour(antagonist) if antagonist is not None else None,
                        timing=timing,
                        seed=request.seed,
                        conditions=conditions,
                        made=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                        command=command,
                        progress=progress,
                        rules=rules,
                        most_foreign=request.most_foreign,
                    )
                proofs.append(proof)
                progress.note(f"{proof.judgement}: {proof.because}")
                progress.note(f"recorded in {write_proof(proof, proofs_directory(find_paths().state))}")
        kept = keep and overall(proofs) is Judgement.KEEP
        if kept:
            keep_applied(plan)
            progress.note("the change stays applied until the next boot; to undo it: bedplate tune undo")
        return ProveOutcome(proofs=tuple(proofs), kept=kept)


def probe(request: ExperimentRequest, progress: Progress, *, dry_run: bool = False) -> Profile | None:
    """Rank the resources that the victim is sensitive to; None for a dry run. Raises UsageError without a neighbour."""
    neighbours = _find_neighbours(request, _PROBE_KINDS, _PROBE_LEVEL_PCT)
    if not neighbours.chosen:
        raise UsageError("--antagonist none: --sensitivity needs a neighbour")
    timing = _time_blocks(request, neighbours, _PROBE_PAIRS)
    victim, _ = make_victim(request.victim, progress, seed=request.seed, budget_s=request.budget_s)
    progress.note(
        f"about {render_seconds(timing.estimate_s * len(neighbours.chosen))}: {timing.pairs} pairs of blocks of"
        f" {timing.block_s:.1f} s for each of {neighbours.names} at {neighbours.level_pct} %; victim: {victim.name}"
    )
    if dry_run:
        return None
    _warn_when_busy(request, progress)
    with ExitStack() as stack:
        stack.enter_context(in_memory(progress.note))
        make_neighbour = _prepare(request, neighbours, stack, progress)
        stack.callback(victim.close)
        victim.start()
        beside = [make_neighbour(antagonist) for antagonist in neighbours.chosen]
        with progress.phase("causal probes"):
            return probe_neighbours(
                victim,
                beside,
                timing=timing,
                seed=request.seed,
                progress=progress,
                most_foreign=request.most_foreign,
            )


def list_proofs() -> ProofRecords:
    """The records of this host, and which of them still hold. Raises ReadError for a file that is no record."""
    directory = proofs_directory(find_paths().state)
    return ProofRecords(directory=directory, records=read_proofs(directory, read_conditions(Root(), "")))


def _find_plan(subject: SubjectRequest) -> tuple[str, Plan]:
    """What is to be proved in a word, and the plan that makes it."""
    if subject.setting is not None:
        name, value = subject.setting
        return f"{name}={value}", setting_plan(name, value)
    if subject.knob is not None:
        return subject.knob, knob_plan(subject.knob, subject.policy)
    plan = whole_plan(subject.policy)
    return f"plan {plan.digest[:12]}", plan


def _find_neighbours(request: ExperimentRequest, usual: tuple[str, ...], usual_level_pct: int) -> _Neighbours:
    level_pct = usual_level_pct if request.level_pct is None else request.level_pct
    if not 1 <= level_pct <= 1000:
        raise UsageError(f"--level {level_pct}: expected 1 to 1000 percent")
    rows = read_antagonists()
    names = usual if request.antagonists is None else request.antagonists
    chosen = tuple(choose_antagonists(names, rows)) if names else ()
    for row in chosen:
        if level_pct > max(row.levels_pct):
            raise UsageError(f"--level {level_pct}: expected at most {max(row.levels_pct)} percent for {row.id}")
    neighbours = _Neighbours(chosen=chosen, rows=rows, level_pct=level_pct)
    if chosen and not os.access(request.scratch, os.W_OK | os.X_OK):
        raise UsageError(f"--scratch {request.scratch}: is not a writable directory", hint="Choose another directory.")
    require(neighbours.with_parts())
    return neighbours


def _time_blocks(request: ExperimentRequest, neighbours: _Neighbours, usual_pairs: int) -> Timing:
    return time_blocks(
        budget_s=request.budget_s,
        pairs=usual_pairs if request.pairs is None else request.pairs,
        antagonists=max(1, len(neighbours.chosen)),
        block_s=request.block_s,
    )


def _prepare(
    request: ExperimentRequest, neighbours: _Neighbours, stack: ExitStack, progress: Progress
) -> Callable[[Antagonist], Neighbour]:
    """The ground of the antagonists, removed when the stack ends; what comes back puts one of them in its place."""
    scale: Scale = read_scale()
    scratch: Scratch | None = None
    if neighbours.chosen:
        parts = [(row, neighbours.level_pct) for row in neighbours.with_parts()]
        scratch = stack.enter_context(prepared(request.scratch, parts, scale, talk=progress.note))

    def make_neighbour(antagonist: Antagonist) -> Neighbour:
        assert scratch is not None  # there is an antagonist
        return Neighbour(
            antagonist=antagonist,
            level_pct=neighbours.level_pct,
            scale=scale,
            scratch=scratch,
            place=find_place(request.neighbour_place, "neighbour.slice"),
            rows=neighbours.rows,
        )

    return make_neighbour


def _warn_when_busy(request: ExperimentRequest, progress: Progress) -> None:
    """Say at once when blocks will be spoilt, and not after twenty minutes."""
    share = busy_share()
    if share > request.most_foreign:
        progress.note(
            f"other processes use {share:.0%} of the CPUs now; a block in which they use more than"
            f" {request.most_foreign * 100:g} % does not count"
        )


def _outline(
    subject: str, plan: Plan, neighbours: _Neighbours, victim: Victim, timing: Timing, seed: int
) -> tuple[str, str]:
    """What would be done, and how long it takes."""
    whole_s = timing.estimate_s * max(1, len(neighbours.chosen))
    changes = plural(len(plan.changes), "change")
    beside = neighbours.names or "no neighbour"
    level = f" at {neighbours.level_pct} %" if neighbours.chosen else ""
    blocks = f"{timing.pairs} pairs of blocks of {timing.block_s:.1f} s after {timing.wash_s:.1f} s of wash-out; seed {seed}"
    length = f"about {render_seconds(whole_s)}, up to {render_seconds(whole_s * 2)} if blocks are rejected"
    return (
        f"{subject}: {changes}, turned on and off beside {beside}{level}; victim: {victim.name}",
        f"{length}: {blocks}",
    )


def parse_antagonists(words: Sequence[str] | None) -> tuple[str, ...] | None:
    """Neighbours by their words: None for the usual ones, () for QUIET. Raises UsageError for QUIET beside others."""
    if not words:
        return None
    if QUIET not in words:
        return tuple(words)
    if len(words) > 1:
        raise UsageError(f"--antagonist {' '.join(words)}: {QUIET} stands alone")
    return ()


def write_proof_page(file: Path, summary: ProofSummary) -> None:
    """Write what came out as one self-contained HTML page. Raises UsageError where it cannot be written."""
    write_page(file, render_page(summary, version=__version__))
