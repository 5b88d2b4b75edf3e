"""All other rows of the catalog: settings that somebody made and nobody needs go back to the kernel's default, and
whatever is left alone says why.

Only what harms or does nothing is taken away, and only what has evidence is set: an experiment waits for its proof.
"""

from __future__ import annotations

from bedplate.model.knob import ChangeNeed, Grade, Knob, Recommendation
from bedplate.model.knob_value import Compare, Parse
from bedplate.model.plan_part import Part
from bedplate.model.tuning import Means, Setting
from bedplate.plan.rules.rows.judge import Comparison, DeadSetting, judge_row, summarise
from bedplate.plan.rules.rule import Outcome, Result
from bedplate.plan.tune.builder import PlanBuilder

_TAKEN_BACK = (
    Recommendation.CARGO_CULT,
    Recommendation.HARMFUL,
    Recommendation.REJECT,
    Recommendation.LEAVE,
    Recommendation.DEAD,
)
_MOST_FILES = 64
_FILES = ("/proc/sys/", "/sys/")
_NOT_FILES = ("/sys/fs/cgroup/", "/sys/kernel/debug/", "/sys/fs/resctrl/")
_POOLS = "unused_huge_pages"  # the fact that names the directory of a pool, not the file to write


def plan_rows(builder: PlanBuilder) -> None:
    """Every row of the catalog that no other part has spoken of."""
    told = {change.knob for change in builder.changes} | set(builder.skips) | set(builder.parts)
    for knob in builder.inputs.knobs.values():
        if knob.id not in told:
            _plan_row(builder, knob)


def _plan_row(builder: PlanBuilder, knob: Knob) -> None:
    policy = builder.inputs.policy
    if knob.id in policy.forbid:
        builder.skip(knob.id, f"policy {policy.id} forbids it: {policy.because}")
        return
    results = judge_row(knob, builder.inputs.facts, builder.inputs.files)
    judged = summarise(knob.id, results)
    dead = any(isinstance(result, DeadSetting) for result in results)
    if dead or judged.outcome is not Outcome.DOES_NOT_HOLD:
        builder.skip(knob.id, _untouched(knob, judged, dead=dead))
        return
    failed = [result for result in results if isinstance(result, Comparison) and result.outcome is Outcome.DOES_NOT_HOLD]
    before = len(builder.changes)
    if knob.verdict in _TAKEN_BACK and Part.CLEANUP in policy.parts and not knob.for_safety:
        for result in failed[:_MOST_FILES]:
            _take_back(builder, knob, result)
    elif knob.verdict is Recommendation.ADOPT and knob.part is Part.POWER and Part.POWER in policy.parts:
        for result in failed:  # of every CPU: work moves to those whose clock was raised
            _write(builder, knob, result, f"{result.because}: {knob.why}")
    elif knob.verdict is Recommendation.ADOPT and knob.boot_flag:
        name, _, value = knob.boot_flag.partition("=")
        setting = Setting(means=Means.CMDLINE, name=name)
        because = f"{judged.because}: {knob.why}"
        builder.want(setting, value, old=None, knob=knob.id, because=because, parse=Parse.FLAG, needs=knob.needs)
    if len(builder.changes) == before:
        builder.skip(knob.id, _left(knob, judged))


def _take_back(builder: PlanBuilder, knob: Knob, result: Comparison) -> None:
    if result.check.fact == _POOLS:
        _give_back_pages(builder, knob, result)
        return
    if result.check.parameter:
        reading = result.sample.reading if result.sample is not None else None
        if reading is None or reading.value is None:
            return
        setting = Setting(means=Means.CMDLINE, name=result.check.parameter)
        needs = (ChangeNeed.ROOT, ChangeNeed.REBOOT)
        because = f"{reading.text}: {knob.why}"
        builder.want(
            setting,
            "",
            old=reading.value,
            knob=knob.id,
            because=because,
            parse=Parse.WORDS,
            compare=Compare.ABSENT,
            needs=needs,
        )
        return
    if knob.kernel_computes and not builder.inputs.files.set_at_boot(result.path):
        return
    _write(builder, knob, result, f"{result.because}: {knob.why}")


def _give_back_pages(builder: PlanBuilder, knob: Knob, result: Comparison) -> None:
    """A pool of which not one page is used; the sample names its directory."""
    for size, total, _ in builder.inputs.facts.memory.huge_pages:
        if result.path.endswith(f"hugepages-{size // 1024}kB"):
            path, because = f"{result.path}/nr_hugepages", f"{result.because}: {knob.why}"
            builder.file(path, "0", knob=knob.id, because=because, parse=Parse.NUMBER, old=str(total))


def _write(builder: PlanBuilder, knob: Knob, result: Comparison, because: str) -> None:
    path = result.path
    is_value = not result.check.fact or result.check.writes
    if not is_value or not result.want or not path.startswith(_FILES) or path.startswith(_NOT_FILES):
        return
    builder.file(path, result.want, knob=knob.id, because=because, parse=result.check.parse)


def _untouched(knob: Knob, judged: Result, *, dead: bool) -> str:
    """Why a row asks for nothing here; dead: it is set at boot, and this kernel does not have it."""
    if dead:
        return f"{judged.because}: delete the line (bedplate doctor has the command)"
    if knob.verdict is Recommendation.EXPERIMENT:
        return f"no gain shown on this host: bedplate prove --knob {knob.id}"
    match judged.outcome:
        case Outcome.HOLDS:
            return f"holds already: {judged.because}" if judged.because else "holds already"
        case Outcome.DOES_NOT_APPLY:
            if not knob.check and knob.knob:
                return f"is a form of {knob.knob}, which has its own entry"
            return f"does not apply: {judged.because or knob.applies}"
        case Outcome.UNKNOWN:
            return f"unknown: {judged.because}"
        case Outcome.REPORTED:
            return f"no value is recommended: {judged.because}"
        case _:
            return judged.because or "facts cannot decide it"


def _left(knob: Knob, judged: Result) -> str:
    """Why a row that does not hold is left as it is."""
    unproven = knob.verdict in (Recommendation.EXPERIMENT, Recommendation.CONDITIONAL) or knob.grade in (Grade.C, Grade.N)
    if unproven and knob.verdict not in (*_TAKEN_BACK, Recommendation.AUDIT, Recommendation.HARMLESS):
        return f"no gain shown on this host: bedplate prove --knob {knob.id} ({judged.because})"
    if knob.verdict is Recommendation.HARMLESS:
        return f"nothing to gain: {judged.because}"
    return f"{judged.because}: no plan can change it; see bedplate explain {knob.id}"
