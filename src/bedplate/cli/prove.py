"""Measure what a change is worth on this host, beside a noisy neighbour: keep, revert, no effect, or refused.

One host and one process are both arms: the change is turned on and off in randomised blocks (ABBA), and is taken back at
the end, at Ctrl-C and at errors. What is claimed is at least 2 %, shown by a permutation test over pairs of blocks, while
no guard metric (latency tails, the neighbour's own work) loses more than its margin. Each verdict is kept as a record,
which expires when kernel, driver, engine or machine change.

examples:
  bedplate prove --setting vm.stat_interval=10             one setting, beside one busy thread a CPU, 20 minutes
  bedplate prove --knob cpu.weight --antagonist cpu memory what the plan says of one knob, beside two neighbours in turn
  bedplate prove --plan --victim http://127.0.0.1:8080     the whole plan, with the engine that serves there
  bedplate prove --plan --keep --html proof.html           leave it applied if it pays, and write a page with charts
  bedplate prove --sensitivity                             what this engine is sensitive to: 10 % of each resource taken
  bedplate prove list                                      verdicts, and which of them still hold

Ends with 0 when a verdict was reached, whatever it is, and with 1 when the conditions did not allow to judge.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from bedplate.cli.proving import (
    QUIET,
    find_antagonists,
    find_seed,
    make_neighbour,
    make_scratch,
    make_victim,
    parse_time,
    utc_now,
    warn_when_busy,
)
from bedplate.errors import UsageError
from bedplate.model.tuning import Policy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bedplate.cli.terminal import PhaseClock
    from bedplate.model.proof import Antagonist, Proof
    from bedplate.model.tuning import Plan
    from bedplate.prove.schedule import Timing
    from bedplate.prove.victims import Victim

HELP = "measure what a change is worth here, beside a noisy neighbour"
_PROBE_LEVEL_PCT, _PROBE_PAIRS = 10, 4
_PROBE_KINDS = ("cpu", "memory", "bandwidth", "io", "pagecache", "network")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", nargs="?", choices=("list",), help="list: the records instead of an experiment")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--setting", metavar="S=VALUE", help='"vm.dirty_bytes=268435456", "/sys/...=x", "neighbour.slice:CPUWeight=1"'
    )
    what.add_argument(
        "--knob", metavar="K", help="a row of the catalog, with the value that the plan computes for this host"
    )
    what.add_argument("--plan", action="store_true", help="everything that `bedplate tune plan` would change")
    what.add_argument(
        "--sensitivity", action="store_true", help="no change: rank the resources that the victim is sensitive to"
    )
    parser.add_argument(
        "--policy",
        metavar="NAME",
        choices=tuple(Policy),
        default=Policy.SHARED_HOST,
        help="of the plan (default: shared-host)",
    )
    beside = parser.add_argument_group("the neighbour")
    beside.add_argument(
        "--antagonist",
        metavar="A",
        nargs="+",
        help=f"ids or kinds of docs/reference/antagonists.md, one after the other (default: cpu); {QUIET}: without any",
    )
    beside.add_argument("--level", metavar="PCT", type=int, help="of the resource (default: 100; for --sensitivity 10)")
    beside.add_argument(
        "--neighbour-place",
        metavar="WHERE",
        action="append",
        help="a slice, or directories of control groups (default: neighbour.slice where systemd runs)",
    )
    beside.add_argument(
        "--scratch", metavar="DIR", type=Path, default=Path("/var/tmp"), help="for its files (default: /var/tmp)"
    )
    victim = parser.add_argument_group("the victim")
    victim.add_argument("--victim", metavar="V", default="dispatch", help="dispatch (emulates a GPU host's loop), or a URL")
    victim.add_argument("--victim-place", metavar="WHERE", action="append", help="of dispatch (default: inference.slice)")
    victim.add_argument("--period-ms", metavar="MS", type=float, default=10.0, help="of dispatch: a step (default: 10)")
    victim.add_argument("--work-ms", metavar="MS", type=float, default=1.0, help="of dispatch: host work in it (default: 1)")
    victim.add_argument("--model", metavar="NAME", default="", help="the `model` field of requests")
    victim.add_argument("--engine-pid", metavar="PID", type=int, action="append", default=[], help="processes of the engine")
    victim.add_argument("--streams", metavar="N", type=int, default=1, help="of steady load (default: 1)")
    victim.add_argument("--tokens", metavar="IN:OUT", default="32:64", help="of each request (default: 32:64)")
    victim.add_argument("--trace", metavar="FILE", type=Path, help="replay it in each block, instead of steady load")
    victim.add_argument("--window", metavar="A:B", help="of the trace, in seconds")
    victim.add_argument("--scale-tokens", metavar="X", type=float, default=1.0, help="factor for its tokens")
    victim.add_argument("--scale-time", metavar="X", type=float, default=1.0, help="factor for its times")
    victim.add_argument("--slo", metavar="TTFT:TPOT", default="2:0.2", help="seconds, for goodput (default: 2:0.2)")
    how = parser.add_argument_group("the experiment")
    how.add_argument("--budget", metavar="TIME", default="20m", help="for all of it (default: 20m)")
    how.add_argument("--pairs", metavar="N", type=int, help="of blocks (default: 10)")
    how.add_argument("--block-s", metavar="S", type=float, help="of one block, instead of what the budget gives")
    how.add_argument("--primary", choices=("rate", "itl_p99"), default="rate", help="metric that must gain (default: rate)")
    how.add_argument("--most-foreign", metavar="PCT", type=float, default=5.0, help="load of others that spoils a block (5)")
    how.add_argument("--seed", metavar="N", type=int, help="of the order and the tests (default: the clock; it is printed)")
    how.add_argument("--keep", action="store_true", help="leave the change applied when the verdict is keep")
    how.add_argument("--dry-run", action="store_true", help="say what would be done and how long it takes")
    parser.add_argument("--json", action="store_true", help="the proofs as JSON, with all samples")
    parser.add_argument("--html", metavar="FILE", type=Path, help="write one self-contained page with charts, too")


def main(arguments: argparse.Namespace) -> int:
    from bedplate.cli.signals import signals_interrupt
    from bedplate.cli.terminal import terminal_progress

    if arguments.what == "list":
        return _list(arguments)
    if not (arguments.setting or arguments.knob or arguments.plan or arguments.sensitivity):
        raise UsageError("nothing to prove", hint="Give --setting S=VALUE, --knob K, --plan, or --sensitivity.")
    with signals_interrupt(), terminal_progress() as progress:
        return _probe(arguments, progress) if arguments.sensitivity else _prove(arguments, progress)


# -- the experiment -----------------------------------------------------------------------------------------------------


def _prove(arguments: argparse.Namespace, progress: PhaseClock) -> int:
    from bedplate.prove.switch import one_experiment

    if arguments.dry_run:
        return _experiment(arguments, progress)
    with one_experiment():  # from before the plan: what a killed experiment left on would be taken for the host's own
        return _experiment(arguments, progress)


def _experiment(arguments: argparse.Namespace, progress: PhaseClock) -> int:
    from contextlib import ExitStack

    from bedplate.act.paths import find_paths
    from bedplate.model.proof import Judgement
    from bedplate.prove.antagonists import read_scale
    from bedplate.prove.experiment import overall, run_experiment
    from bedplate.prove.judge import Rules
    from bedplate.prove.ledger import proofs_directory, write_proof
    from bedplate.prove.schedule import time_blocks
    from bedplate.prove.switch import PlanSwitch, check_provable, keep_applied

    subject, plan = _find_plan(arguments)
    chosen, rows = find_antagonists(arguments, ("cpu",))
    timing = time_blocks(
        budget_s=parse_time(arguments.budget),
        pairs=arguments.pairs or 10,
        antagonists=max(1, len(chosen)),
        block_s=arguments.block_s,
    )
    level = 100 if arguments.level is None else arguments.level
    check_provable(plan)
    seed, command = find_seed(arguments)
    victim, conditions = make_victim(arguments)
    for line in _outline(subject, plan, chosen, level, victim, timing, seed):
        progress.note(line)
    if arguments.dry_run:
        return 0
    warn_when_busy(arguments, progress)
    switch = PlanSwitch(plan)
    proofs: list[Proof] = []
    rules = Rules(primary=arguments.primary, families=max(1, len(chosen)))
    with ExitStack() as stack:
        stack.callback(switch.close)
        scale = read_scale()
        scratch = make_scratch(arguments, chosen, rows, level, scale, stack, progress)
        stack.callback(victim.close)
        victim.start()
        beside: list[Antagonist | None] = [*chosen] or [None]
        for one in beside:
            name = one.id if one is not None else "no neighbour"
            with progress.phase(f"{subject} beside {name}"):
                proof = run_experiment(
                    subject=subject,
                    switch=switch,
                    victim=victim,
                    neighbour=make_neighbour(arguments, one, level, scale, scratch, rows),
                    timing=timing,
                    seed=seed,
                    conditions=conditions,
                    made=utc_now(),
                    command=command,
                    progress=progress,
                    rules=rules,
                    most_foreign=arguments.most_foreign / 100,
                )
            proofs.append(proof)
            progress.note(f"{proof.judgement}: {proof.because}")
            progress.note(f"recorded in {write_proof(proof, proofs_directory(find_paths().state))}")
    verdict = overall(proofs)
    if verdict is Judgement.KEEP and arguments.keep:
        keep_applied(plan)
        progress.note("the change is left applied until the next boot; take it back: bedplate tune undo")
    _show(proofs, arguments, progress)
    return 1 if verdict is Judgement.REFUSED else 0


def _outline(
    subject: str, plan: Plan, chosen: Sequence[Antagonist], level: int, victim: Victim, timing: Timing, seed: int
) -> list[str]:
    from bedplate.model.units import render_seconds

    beside = ", ".join(one.id for one in chosen) or "no neighbour"
    whole_s = timing.estimate_s * max(1, len(chosen))
    how = f"{len(plan.changes)} change{'s' if len(plan.changes) != 1 else ''}, turned on and off beside {beside}"
    level_words = f" at {level} %" if chosen else ""
    blocks = f"{timing.pairs} pairs of blocks of {timing.block_s:.1f} s after {timing.wash_s:.1f} s of wash-out; seed {seed}"
    length = f"about {render_seconds(whole_s)}, up to {render_seconds(whole_s * 2)} when blocks are spoilt"
    return [f"{subject}: {how}{level_words}; victim: {victim.name}", f"{length}: {blocks}"]


def _show(proofs: Sequence[Proof], arguments: argparse.Namespace, progress: PhaseClock) -> None:
    from dataclasses import asdict

    from bedplate.cli.audited import this_screen
    from bedplate.cli.faces.proof_text import render_table
    from bedplate.cli.faces.study import study_of_proofs
    from bedplate.prove.experiment import overall

    study = study_of_proofs(proofs)
    if arguments.html:
        from bedplate import __version__
        from bedplate.cli.faces.proof_page import render_page

        _write_page(arguments.html, render_page(study, version=__version__))
        progress.note(f"wrote {arguments.html}")
    progress.close()
    if arguments.json:
        record = {"schema": 1, "judgement": overall(proofs), "proofs": [asdict(one) for one in proofs]}
        print(json.dumps(record, allow_nan=False))
    else:
        print(render_table(study, this_screen()), end="")


def _write_page(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--html {file}: cannot be written: {error.strerror or error}") from error


def _find_plan(arguments: argparse.Namespace) -> tuple[str, Plan]:
    """What is to be proved, and the plan that makes it."""
    from bedplate.prove.subject import knob_plan, setting_plan, whole_plan

    if arguments.setting:
        name, equals, value = arguments.setting.rpartition("=")
        if not equals or not name or not value:
            raise UsageError(f"--setting {arguments.setting!r}: expected NAME=VALUE", hint="Such as vm.stat_interval=10.")
        return arguments.setting, setting_plan(name, value)
    if arguments.knob:
        return arguments.knob, knob_plan(arguments.knob, Policy(arguments.policy))
    plan = whole_plan(Policy(arguments.policy))
    return f"plan {plan.digest[:12]}", plan


# -- probes -------------------------------------------------------------------------------------------------------------


def _probe(arguments: argparse.Namespace, progress: PhaseClock) -> int:
    from contextlib import ExitStack
    from dataclasses import asdict

    from bedplate.model.units import render_seconds
    from bedplate.prove.antagonists import read_scale
    from bedplate.prove.schedule import time_blocks
    from bedplate.prove.sensitivity import probe

    chosen, rows = find_antagonists(arguments, _PROBE_KINDS)
    if not chosen:
        raise UsageError(f"--antagonist {QUIET}: without a neighbour there is nothing to be sensitive to")
    level = _PROBE_LEVEL_PCT if arguments.level is None else arguments.level
    timing = time_blocks(
        budget_s=parse_time(arguments.budget),
        pairs=arguments.pairs or _PROBE_PAIRS,
        antagonists=len(chosen),
        block_s=arguments.block_s,
    )
    seed, _ = find_seed(arguments)
    victim, _ = make_victim(arguments)
    progress.note(
        f"about {render_seconds(timing.estimate_s * len(chosen))}: {timing.pairs} pairs of blocks of {timing.block_s:.1f} s"
        f" for each of {', '.join(one.id for one in chosen)} at {level} %; victim: {victim.name}"
    )
    if arguments.dry_run:
        return 0
    warn_when_busy(arguments, progress)
    with ExitStack() as stack:
        scale = read_scale()
        scratch = make_scratch(arguments, chosen, rows, level, scale, stack, progress)
        stack.callback(victim.close)
        victim.start()
        neighbours = [
            found for one in chosen if (found := make_neighbour(arguments, one, level, scale, scratch, rows)) is not None
        ]
        with progress.phase("causal probes"):
            profile = probe(
                victim, neighbours, timing=timing, seed=seed, progress=progress, most_foreign=arguments.most_foreign / 100
            )
    progress.close()
    if arguments.json:
        print(json.dumps({"schema": 1, **asdict(profile)}, allow_nan=False))
    else:
        print(f"{'neighbour':<22}{'median latency':>28}{'p99':>9}{'work lost':>11}{'pairs':>7}   % for each % of noise")
        for one in profile.sensitivities:
            middle = f"{one.latency_slope:+.2f} ({one.latency_low:+.2f} to {one.latency_high:+.2f})"
            print(f"{one.antagonist:<22}{middle:>28}{one.tail_slope:>+9.2f}{one.rate_slope:>+11.2f}{one.pairs:>7}")
    return 0 if profile.sensitivities else 1


# -- records ------------------------------------------------------------------------------------------------------------


def _list(arguments: argparse.Namespace) -> int:
    from dataclasses import asdict

    from bedplate.act.paths import find_paths
    from bedplate.host.root import Root
    from bedplate.prove.conditions import read_conditions
    from bedplate.prove.ledger import proofs_directory, read_proofs

    directory = proofs_directory(find_paths().state)
    records = read_proofs(directory, read_conditions(Root(), ""))
    if arguments.json:
        listed = []
        for one in records:
            record = asdict(one.proof)
            del record["samples"]
            listed.append({"file": str(one.path), "expired": one.expired, **record})
        print(json.dumps({"schema": 1, "proofs": listed}))
        return 0
    if not records:
        print(f"no proofs in {directory}")
    for one in records:
        proof = one.proof
        beside = ", ".join(proof.antagonists) or "no neighbour"
        print(f"{proof.made}  {proof.judgement:<9}  {proof.subject}, beside {beside}, {proof.victim}")
        print(f"    {proof.because}")
        print(f"    {one.path}{f' (expired: {one.expired})' if one.expired else ''}")
    return 0
