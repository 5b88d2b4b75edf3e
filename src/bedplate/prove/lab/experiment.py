"""One experiment: blocks of steady work in both arms beside a neighbour, and what may spoil them recorded with every block.

The victim stays the same process in both arms, unless a change takes effect only at its start: then each block begins with a
fresh one. The neighbour starts anew in each block, since the scheduler's grouping acts when a task forks. However the
experiment ends, the change is taken back; only a caller that was asked to keep it turns it on again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace

from bedplate.errors import PreflightError
from bedplate.interrupts import hold_signals
from bedplate.model.progress import Progress
from bedplate.model.proof import Antagonist, Conditions, Judgement, Proof, Sample
from bedplate.model.wording import plural
from bedplate.prove.gauge.judge import WITH, WITHOUT, JudgedEffects, Rules, judge, pair_up
from bedplate.prove.gauge.sampler import MOST_FOREIGN
from bedplate.prove.lab.antagonists import PLAIN, AntagonistError, CgroupTarget, Noise, Scratch, running
from bedplate.prove.lab.antagonists.fill import Scale
from bedplate.prove.lab.sample import Watch, did_not_run, foreign_problem, load_problem, take_sample
from bedplate.prove.lab.schedule import QUIET_BLOCKS, Block, Timing, order_blocks
from bedplate.prove.lab.switch import Switch
from bedplate.prove.lab.victims import Victim, VictimMeasurement

_HOPELESS = 8  # blocks without one that counts: the host is not fit now, and waiting longer tells nothing new
_SLACK_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """An antagonist at a level, in its place; `rows` are those that a combined one is made of."""

    antagonist: Antagonist
    level_pct: int
    scale: Scale
    scratch: Scratch
    place: CgroupTarget = PLAIN
    rows: tuple[Antagonist, ...] = ()

    @contextmanager
    def beside(self, seconds: float) -> Iterator[Noise]:
        """It runs while the block does."""
        with running(
            self.antagonist,
            self.level_pct,
            self.place,
            seconds,
            scratch=self.scratch,
            scale=self.scale,
            rows=self.rows,
        ) as noise:
            yield noise


def run_experiment(
    *,
    subject: str,
    switch: Switch,
    victim: Victim,
    neighbour: Neighbour | None,
    timing: Timing,
    seed: int,
    conditions: Conditions,
    made: str,
    command: str,
    progress: Progress,
    rules: Rules | None = None,
    most_foreign: float = MOST_FOREIGN,
) -> Proof:
    """Run the blocks and judge them; the change is off when this returns or raises. The victim is running and goes on."""
    samples = run_blocks(
        switch=switch,
        victim=victim,
        neighbour=neighbour,
        timing=timing,
        seed=seed,
        progress=progress,
        most_foreign=most_foreign,
    )
    judged: JudgedEffects = judge(samples, seed=seed, rules=rules)
    return Proof(
        subject=subject,
        judgement=judged.judgement,
        because=judged.because,
        effects=judged.effects,
        antagonists=(neighbour.antagonist.id,) if neighbour is not None else (),
        victim=victim.name,
        kernel=conditions.kernel,
        driver=conditions.driver,
        engine=conditions.engine,
        machine=conditions.machine,
        made=made,
        seed=seed,
        command=command,
        samples=samples,
    )


def run_blocks(
    *,
    switch: Switch,
    victim: Victim,
    neighbour: Neighbour | None,
    timing: Timing,
    seed: int,
    progress: Progress,
    most_foreign: float = MOST_FOREIGN,
) -> tuple[Sample, ...]:
    """All samples in the order in which they were taken, rejected ones among them. Quiet blocks have round 0.

    Pairs that were lost to rejected blocks are measured again, at most as many as were asked for. Ends early when none of
    the first blocks counts. Raises PreflightError where the change needs a restart that the victim does not have.
    """
    if switch.restarts and not victim.can_restart:
        raise PreflightError(
            f"the change takes effect when the engine starts, and bedplate cannot restart {victim.name}",
            hint="Test it with --victim dispatch, or test a setting that takes effect at run time.",
        )
    began = time.monotonic()
    samples: list[Sample] = []

    def measure(block: Block, beside: Neighbour | None) -> None:
        switch.turn(on=block.on)
        if switch.restarts:
            victim.restart()
        one = measure_block(victim, beside, timing, confined=block.on, began=began, most_foreign=most_foreign)
        arm = WITH if block.on else WITHOUT
        samples.append(replace(one, arm=arm, round=block.pair))

    try:
        for number in range(QUIET_BLOCKS):
            progress.detail(f"quiet block {number + 1} of {QUIET_BLOCKS}")
            measure(Block(pair=0, on=False), None)
        wanted, first = timing.pairs, 1
        while wanted > 0:
            for block in order_blocks(wanted, seed=seed, first_pair=first):
                last_pair = max(first + wanted - 1, timing.pairs)
                progress.detail(f"pair {block.pair} of {last_pair}, change {'on' if block.on else 'off'}{so_far(samples)}")
                measure(block, neighbour)
                if len(samples) == QUIET_BLOCKS + _HOPELESS and all(sample.rejected for sample in samples[QUIET_BLOCKS:]):
                    progress.note(f"none of the first {_HOPELESS} blocks counts: {samples[-1].rejected}")
                    return tuple(samples)
            first += wanted
            missing = timing.pairs - len(pair_up(samples))
            wanted = min(missing + missing % 2, timing.pairs * 2 - first + 1)
            if wanted > 0:
                progress.note(f"{missing} of {timing.pairs} pairs were rejected ({_last_reason(samples)}); measuring again")
        return tuple(samples)
    finally:
        with hold_signals():
            switch.turn(on=False)


def measure_block(
    victim: Victim,
    neighbour: Neighbour | None,
    timing: Timing,
    *,
    confined: bool,
    began: float,
    most_foreign: float = MOST_FOREIGN,
) -> Sample:
    """Wash-out, then one block; arm and round are the caller's to fill in."""
    # A neighbour in a group of its own may get less than it asks for in both arms.
    confined = confined or (neighbour is not None and neighbour.place != PLAIN)
    try:
        with (
            neighbour.beside(timing.wash_s + timing.block_s + _SLACK_S) if neighbour is not None else nullcontext() as noise
        ):
            taken = take_sample(
                victim, noise, victim.pids(), wash_s=timing.wash_s, block_s=timing.block_s, confined=confined
            )
    except AntagonistError as error:
        nothing = VictimMeasurement(duration_s=timing.block_s, work=0.0, seconds=(), gaps_s=())
        return _make_sample(nothing, None, neighbour, did_not_run(error), began)
    foreign = foreign_problem(taken.watch.usage.foreign_share, most_foreign)
    problem = taken.watch.problem or foreign or load_problem(taken.measured)
    return _make_sample(taken.measured, taken.watch, neighbour, problem, began)


def _make_sample(
    measured: VictimMeasurement, watch: Watch | None, neighbour: Neighbour | None, problem: str, began: float
) -> Sample:
    usage = watch.usage if watch is not None else None
    return Sample(
        arm="",
        antagonist=neighbour.antagonist.id if neighbour is not None else "",
        level_pct=neighbour.level_pct if neighbour is not None else 0,
        round=0,
        started_s=time.monotonic() - began - measured.duration_s,
        duration_s=measured.duration_s,
        work=measured.work,
        seconds=measured.seconds,
        gaps_s=measured.gaps_s,
        ttft_s=measured.ttft_s,
        e2e_s=measured.e2e_s,
        requests=measured.requests,
        failed=measured.failed,
        late_s=measured.late_s,
        neighbour_work=watch.rate * measured.duration_s if watch is not None else 0.0,
        neighbour_cpu_s=watch.cpu_s if watch is not None else 0.0,
        idle_cpu_s=usage.idle_s if usage is not None else 0.0,
        foreign_share=usage.foreign_share if usage is not None else 0.0,
        rejected=problem,
        good=measured.good,
        victim_delay=usage.victim_delay if usage is not None else 0.0,
    )


def so_far(samples: Sequence[Sample]) -> str:
    """ ", rate x2.91 over 4 pairs": what the progress line ends with; "" before the first pair."""
    pairs = pair_up(samples)
    without = sum(pair.without.work / pair.without.duration_s for pair in pairs)
    with_ = sum(pair.with_.work / pair.with_.duration_s for pair in pairs)
    if not pairs or without <= 0:
        return ""
    return f", rate x{with_ / without:.3g} over {plural(len(pairs), 'pair')}"


def _last_reason(samples: Sequence[Sample]) -> str:
    return next((sample.rejected.partition(":")[0] for sample in reversed(samples) if sample.rejected), "not in pairs")


def overall(proofs: Sequence[Proof]) -> Judgement:
    """Of one question asked beside several antagonists: harm anywhere reverts; a gain somewhere and harm nowhere keeps."""
    verdicts = {proof.judgement for proof in proofs}
    for verdict in (Judgement.REVERT, Judgement.KEEP, Judgement.NO_EFFECT):
        if verdict in verdicts:
            return verdict
    return Judgement.REFUSED
