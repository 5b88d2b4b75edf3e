"""Judging rows on a machine: what each of their checks found, and what follows for the row.

Unknown stays unknown: a row holds only when something was read and compares well, and fails only when something was read, or
is known to be absent, and does not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bedplate.model.facts.finding import Evidence
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.reading import Reading, Unknown, known, missing
from bedplate.model.knob import Absent, Check, Knob
from bedplate.model.knob_value import Compare, Parse, holds, parse_value
from bedplate.model.units import render_size
from bedplate.plan.rules.conditions import CONDITIONS
from bedplate.plan.rules.files import SYSCTL, BootSetting, KnobFiles, parameters, sysctl_name
from bedplate.plan.rules.formulas import FORMULAS
from bedplate.plan.rules.rows.device_facts import DEVICE_FACTS
from bedplate.plan.rules.rows.engine_facts import ENGINE_FACTS
from bedplate.plan.rules.rows.machine_facts import MACHINE_FACTS
from bedplate.plan.rules.rows.samples import FactReader, ObservedValue, sorted_samples
from bedplate.plan.rules.rule import Outcome, Result, find_unmet

FACTS: dict[str, FactReader] = ENGINE_FACTS | MACHINE_FACTS | DEVICE_FACTS

_SHOWN = 100  # characters of a value in a sentence
_WHY = {
    Unknown.ABSENT: "is not there",
    Unknown.DENIED: "may not be read by this user",
    Unknown.HIDDEN: "is not reported by the platform",
    Unknown.MALFORMED: "makes no sense",
    Unknown.NOT_RECORDED: "was not recorded",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison(Result):
    """One observed value compared by one check of a row; without a sample the check as a whole could not be made."""

    check: Check
    sample: ObservedValue | None = None
    want: str = ""
    """The value that should be there, as it would be written; "" when it is only that one should not be."""

    @property
    def path(self) -> str:
        """The file of the observed value; "" where the check as a whole could not be made."""
        return self.sample.reading.source if self.sample is not None else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadSetting(Result):
    """A line that sets a sysctl of the row at boot which this kernel does not have."""

    outcome: Outcome = Outcome.DOES_NOT_HOLD
    setting: BootSetting


def judge_row(knob: Knob, facts: HostFacts, files: KnobFiles) -> tuple[Result, ...]:
    """What judge_checks says of a knob; instead of it, lines that set a sysctl of the knob which this kernel does not have.

    () for a row without checks, which is a form of another row. Links to other rows are not followed.
    """
    id = f"knob.{knob.id}"
    dead = _dead_settings(knob, facts, files)
    if dead:
        return tuple(_dead_result(id, setting) for setting in dead)
    if knob.not_evaluable:
        return (Result(id=id, outcome=Outcome.NOT_EVALUABLE, because=knob.not_evaluable),)
    return judge_checks(id, knob.check, facts, files, when=knob.when)


def judge_checks(
    id: str, checks: Iterable[Check], facts: HostFacts, files: KnobFiles, *, when: Iterable[str] = ()
) -> tuple[Result, ...]:
    """A result of the rule `id` for each thing that each check is about; one where the conditions `when` are not met.

    For rows of any family: a row has an id, checks and conditions.
    """
    unmet = find_unmet(CONDITIONS[name](facts) for name in when)
    if unmet is not None:
        return (Result(id=id, outcome=unmet[0], because=unmet[1]),)
    return tuple(result for check in checks for result in judge_check(id, check, facts, files))


def judge_check(id: str, check: Check, facts: HostFacts, files: KnobFiles) -> tuple[Comparison, ...]:
    """A result for each thing that the check is about; one that says why there is none otherwise."""
    unmet = find_unmet(CONDITIONS[name](facts) for name in check.when)
    if unmet is not None:
        return (Comparison(id=id, check=check, outcome=unmet[0], because=unmet[1]),)
    wanted = check.want
    if check.formula:
        value = FORMULAS[check.formula](facts)
        if value is None:
            because = f"{check.formula} needs facts that are not known"
            return (Comparison(id=id, check=check, outcome=Outcome.UNKNOWN, because=because),)
        wanted = (value,)
    samples = _samples(check, facts, files)
    if not samples:
        because = "this machine has nothing to which the knob applies"
        return (Comparison(id=id, check=check, outcome=Outcome.DOES_NOT_APPLY, because=because),)
    return tuple(_compare(id, check, sample, wanted) for sample in samples)


def summarise(id: str, results: Sequence[Result]) -> Result:
    """The row as a whole: the outcome that its results come to together, and as evidence only what led to it, each once."""
    outcome = _together(results)
    deciding = [result for result in results if result.outcome is outcome]
    because = deciding[0].because if deciding else ""
    dead = [result.setting for result in results if isinstance(result, DeadSetting)]
    if dead:
        names = ", ".join(f"{sysctl_name(setting.path)} in {setting.source}" for setting in dead)
        because = f"set at boot and not in this kernel: {names}"
    return Result(
        id=id,
        outcome=outcome,
        because=because,
        evidence=tuple(dict.fromkeys(evidence for result in deciding for evidence in result.evidence)),
        denied=any(result.denied for result in results),
    )


def _dead_result(id: str, setting: BootSetting) -> DeadSetting:
    name = sysctl_name(setting.path)
    return DeadSetting(
        id=id,
        because=f"{name} is set at boot and not in this kernel",
        where=(setting.source,),
        evidence=(Evidence(fact=f"{name} = {setting.value}", source=setting.source),),
        setting=setting,
    )


def describe(check: Check, sample: ObservedValue) -> str:
    """What was read, in a few words: "vm.swappiness is 1"; "pid 7 (vllm): a quota of 4 CPUs"."""
    reading = sample.reading
    if check.parameter:
        return (
            f"{_shown(reading.text)} is on the kernel command line"
            if reading.value is not None
            else (
                f"{check.parameter} is not on the kernel command line"
                if reading.unknown is Unknown.ABSENT
                else "the kernel command line was not read"
            )
        )
    if reading.value is None:
        why = _WHY[reading.unknown or Unknown.ABSENT]
        name = sample.where if check.fact else _name(reading.source)
        return f"{name}: {_shown(reading.text)}" if check.fact and reading.text else f"{name} {why}"
    if check.fact:
        plain = sample.where.startswith("/") or sample.where == "machine" or reading.text.startswith(sample.where)
        return _shown(reading.text) if plain else f"{sample.where}: {_shown(reading.text)}"
    value = reading.value
    if check.parse is Parse.CHOICE and (chosen := re.search(r"\[([^\[\]]*)\]", value)) is not None:
        value = chosen[1]
    return f"{_name(reading.source)} is {_shown(value) or 'empty'}"


def wanted_words(check: Check, wanted: tuple[str, ...]) -> str:
    """What should be, after "should be ": "at least 2", "madvise or always", "gone"."""
    if check.parse is Parse.FLAG and check.fact:
        wanted = tuple("on" if parse_value(text, Parse.FLAG) else "off" for text in wanted)
    if check.parse is Parse.BYTES:
        wanted = tuple(render_size(int(text)) if text.isdecimal() and text != "0" else text for text in wanted)
    match check.compare:
        case Compare.ABSENT:
            return "gone"
        case Compare.AT_LEAST:
            return f"at least {wanted[0]}"
        case Compare.AT_MOST:
            return f"at most {wanted[0]}"
        case Compare.EQUAL | Compare.ONE_OF:
            return " or ".join(wanted)
        case Compare.CONTAINS:
            return f"with {', '.join(wanted)}"
        case Compare.NOT_CONTAINS:
            return f"without {', '.join(wanted)}"
        case Compare.REPORT:
            return "there"


def _compare(id: str, check: Check, sample: ObservedValue, wanted: tuple[str, ...]) -> Comparison:
    want = check.set or ("" if check.compare in (Compare.ABSENT, Compare.NOT_CONTAINS, Compare.REPORT) else wanted[0])
    said = describe(check, sample)

    def result(outcome: Outcome, because: str) -> Comparison:
        return Comparison(
            id=id,
            outcome=outcome,
            because=because,
            where=(sample.where,),
            evidence=(Evidence(fact=said, source=sample.reading.source),),
            told_by=check.told_by,
            denied=sample.reading.unknown is Unknown.DENIED,
            check=check,
            sample=sample,
            want=want,
        )

    reading = sample.reading
    if reading.value is None:
        if reading.unknown is not Unknown.ABSENT:
            return result(Outcome.UNKNOWN, said)
        outcome = {
            Absent.HOLDS: Outcome.HOLDS,
            Absent.FAILS: Outcome.DOES_NOT_HOLD,
            Absent.DOES_NOT_APPLY: Outcome.DOES_NOT_APPLY,
        }[check.when_absent]
        return result(outcome, said)
    if check.compare is Compare.REPORT:
        return result(Outcome.REPORTED, said)
    # A count of CPUs, or the last of several numbers, is compared with a plain number.
    how = Parse.NUMBER if check.parse in (Parse.CPU_COUNT, Parse.LAST_NUMBER) else check.parse
    try:
        value = parse_value(reading.value, check.parse)
        good = holds(value, check.compare, tuple(parse_value(text, how) for text in wanted))
    except ValueError as error:
        return result(Outcome.UNKNOWN, f"{said}: {error}")
    if good:
        return result(Outcome.HOLDS, said)
    if check.compare is Compare.ABSENT or (check.compare is Compare.AT_MOST and check.fact and wanted == ("0",)):
        return result(Outcome.DOES_NOT_HOLD, said)  # "3 of 4 threads are pinned" needs no "should be none"
    return result(Outcome.DOES_NOT_HOLD, f"{said}; it should be {wanted_words(check, wanted)}")


def _samples(check: Check, facts: HostFacts, files: KnobFiles) -> tuple[ObservedValue, ...]:
    if check.fact:
        return sorted_samples(FACTS[check.fact](facts, files))
    if check.parameter:
        readings = parameters(facts.kernel.cmdline, check.parameter)
        return tuple(
            ObservedValue(reading=reading, where=reading.text or check.parameter, name=reading.text) for reading in readings
        )
    if check.config:
        reading = _config(facts, check.config)
        return (ObservedValue(reading=reading, where=check.config, name=check.config),)
    readings = tuple(reading for path in check.paths for reading in files.find(path))
    return tuple(ObservedValue(reading=reading, where=reading.source, name=_unit_of(reading.source)) for reading in readings)


def _config(facts: HostFacts, option: str) -> Reading[str]:
    source = f"/boot/config-{facts.kernel.release.value or 'RELEASE'}"
    if not facts.kernel.config:
        return missing(Unknown.NOT_RECORDED, source, "the kernel's configuration was not read")
    value = dict(facts.kernel.config).get(option)
    return known(value, source) if value is not None else missing(Unknown.ABSENT, source)


def _unit_of(path: str) -> str:
    """The slice or service of a cgroup file, else the file's path."""
    units = [part for part in path.split("/") if part.endswith((".slice", ".service", ".scope"))]
    return units[-1] if units and path.startswith("/sys/fs/cgroup/") else path


def _together(results: Sequence[Result]) -> Outcome:
    """Of a row: a failed check decides, then an unknown one; what is only reported counts where nothing was compared."""
    reported = {result.outcome for result in results if _only_reports(result)}
    compared = {result.outcome for result in results if not _only_reports(result)}
    if Outcome.DOES_NOT_HOLD in compared | reported:
        return Outcome.DOES_NOT_HOLD
    for outcome in (Outcome.NOT_EVALUABLE, Outcome.UNKNOWN, Outcome.HOLDS):
        if outcome in compared:
            return outcome
    if Outcome.REPORTED in reported:
        return Outcome.REPORTED
    return Outcome.UNKNOWN if Outcome.UNKNOWN in reported and not compared else Outcome.DOES_NOT_APPLY


def _only_reports(result: Result) -> bool:
    return isinstance(result, Comparison) and result.check.compare is Compare.REPORT


def _dead_settings(knob: Knob, facts: HostFacts, files: KnobFiles) -> tuple[BootSetting, ...]:
    """Settings of the row's sysctls, for the next boot, that this kernel knows to be absent.

    In a container much of /proc/sys/net belongs to another network namespace: absence there says nothing.
    """
    in_container = CONDITIONS["is_container"](facts).holds is not False
    dead: dict[tuple[str, str], BootSetting] = {}
    for check in knob.check:
        for path in check.paths:
            if not path.startswith(SYSCTL) or "*" in path or (in_container and path.startswith(SYSCTL + "net/")):
                continue
            if files.read(path).unknown is Unknown.ABSENT:
                dead |= {(path, setting.source): setting for setting in files.set_at_boot(path) if "*" not in setting.path}
    return tuple(dead.values())


def _name(path: str) -> str:
    return sysctl_name(path) if path.startswith(SYSCTL) else path


def _shown(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
