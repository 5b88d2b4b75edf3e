"""Measure what a change gains on this host beside a noisy neighbour. The verdict is keep, revert, no effect, or refused.

The same host and process are measured with and without the change, which is switched on and off in randomised blocks (ABBA)
and reverted at the end, at Ctrl-C and after errors. The verdict is keep only if a permutation test over pairs of blocks
shows a gain of at least 2 % and no guard metric (latency tails, the neighbour's own work) loses more than its margin. Each
verdict is saved as a record, which expires when the kernel, the driver, the engine or the machine changes.

examples:
  bedplate prove --setting vm.stat_interval=10             test one setting beside one busy thread per CPU, for 20 minutes
  bedplate prove --knob cpu.weight --antagonist cpu memory test one knob of the plan beside two neighbours in turn
  bedplate prove --plan --victim http://127.0.0.1:8080     test the whole plan with the engine at this URL
  bedplate prove --plan --keep --html proof.html           leave the plan applied if it gains, and write a page with charts
  bedplate prove --sensitivity                             rank resources by what the engine loses when 10 % of each is taken
  bedplate prove list                                      list the verdicts, and say which have expired

Exit status: 0 when a verdict was reached, whichever it is; 1 when the conditions allowed no verdict.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from bedplate.cli.argument_types import number, seconds, whole_number
from bedplate.cli.prove_arguments import find_seed, parse_request, parse_subject
from bedplate.cli.result import print_result
from bedplate.cli.screen import this_screen
from bedplate.cli.terminal import terminal_progress
from bedplate.errors import UsageError
from bedplate.flows import prove
from bedplate.flows.pages import check_page
from bedplate.model.proof import Judgement
from bedplate.model.tuning import Policy
from bedplate.report.progress import PhaseClock
from bedplate.report.proof.records import proof_object, render_record, render_sensitivities
from bedplate.report.proof.text import render_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `bedplate prove`: the change, the neighbour, the victim, and the plan of the experiment."""
    parser.add_argument(
        "what", nargs="?", choices=("list",), help="`list` prints the saved verdicts instead of running an experiment"
    )
    _add_change(parser)
    _add_neighbour(parser)
    victim = parser.add_argument_group("the victim")
    _add_victim(victim)
    _add_load(victim)
    _add_experiment(parser)
    parser.add_argument("--json", action="store_true", help="print the proofs as JSON, with all samples")
    parser.add_argument("--html", metavar="FILE", type=Path, help="also write one self-contained HTML page with charts")


def _add_change(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--setting",
        metavar="S=VALUE",
        help="setting to test: vm.dirty_bytes=268435456, /sys/...=x or neighbour.slice:CPUWeight=1",
    )
    what.add_argument(
        "--knob", metavar="K", help="knob of the catalog to test, with the value that the plan computes for this host"
    )
    what.add_argument("--plan", action="store_true", help="test everything that `bedplate tune plan` would change")
    what.add_argument(
        "--sensitivity",
        action="store_true",
        help="test no change: rank the resources by how sensitive the victim is to each",
    )
    parser.add_argument(
        "--policy",
        metavar="NAME",
        choices=tuple(Policy),
        default=Policy.SHARED_HOST,
        help="policy of the plan (default: shared-host)",
    )


def _add_neighbour(parser: argparse.ArgumentParser) -> None:
    beside = parser.add_argument_group("the neighbour")
    beside.add_argument(
        "--antagonist",
        metavar="A",
        nargs="+",
        help=f"neighbours to run in turn: ids or kinds of docs/reference/antagonists.md, or {prove.QUIET} (default: cpu)",
    )
    beside.add_argument(
        "--level",
        metavar="PCT",
        type=whole_number(1, 1000),
        help="share of the resource that the neighbour takes (default: 100; with --sensitivity: 10)",
    )
    beside.add_argument(
        "--neighbour-place",
        metavar="WHERE",
        action="append",
        help="where the neighbour runs: a slice, or control group directories (default: neighbour.slice if systemd runs)",
    )
    beside.add_argument(
        "--scratch",
        metavar="DIR",
        type=Path,
        default=Path("/var/tmp"),
        help="directory for the neighbour's files (default: /var/tmp)",
    )


def _add_victim(victim: argparse._ArgumentGroup) -> None:
    victim.add_argument(
        "--victim",
        metavar="V",
        default="dispatch",
        help="what is measured: the URL of an engine, or `dispatch`, which emulates a GPU host's loop (default: dispatch)",
    )
    victim.add_argument(
        "--victim-place",
        metavar="WHERE",
        action="append",
        help="where `dispatch` runs: a slice or a control group directory (default: inference.slice)",
    )
    victim.add_argument(
        "--period-ms",
        metavar="MS",
        type=number(0.1, 60_000),
        default=10.0,
        help="duration of a step of `dispatch` (default: 10)",
    )
    victim.add_argument(
        "--work-ms",
        metavar="MS",
        type=number(0, 60_000),
        default=1.0,
        help="host work in each step of `dispatch` (default: 1)",
    )
    victim.add_argument(
        "--model",
        metavar="NAME",
        default="",
        help="value of the `model` field of the requests (default: the first model that the engine lists)",
    )
    victim.add_argument(
        "--engine-pid",
        metavar="PID",
        type=whole_number(1),
        action="append",
        default=[],
        help="process of the engine; repeatable (default: found by bedplate)",
    )


def _add_load(victim: argparse._ArgumentGroup) -> None:
    victim.add_argument(
        "--streams",
        metavar="N",
        type=whole_number(1, 1024),
        default=1,
        help="number of parallel streams of steady load (default: 1)",
    )
    victim.add_argument(
        "--tokens", metavar="IN:OUT", default="32:64", help="input and output tokens of each request (default: 32:64)"
    )
    victim.add_argument("--trace", metavar="FILE", type=Path, help="replay this trace in each block instead of steady load")
    victim.add_argument("--window", metavar="A:B", help="part of the trace to replay, in seconds")
    victim.add_argument(
        "--scale-tokens",
        metavar="X",
        type=number(0.001, 1000),
        default=1.0,
        help="multiply the token counts of the trace by X (default: 1)",
    )
    victim.add_argument(
        "--scale-time",
        metavar="X",
        type=number(0.001, 1000),
        default=1.0,
        help="multiply the times of the trace by X (default: 1)",
    )
    victim.add_argument(
        "--slo", metavar="TTFT:TPOT", default="2:0.2", help="longest times in seconds that count as goodput (default: 2:0.2)"
    )


def _add_experiment(parser: argparse.ArgumentParser) -> None:
    how = parser.add_argument_group("the experiment")
    how.add_argument("--budget", metavar="TIME", default="20m", help="time for the whole experiment (default: 20m)")
    how.add_argument("--pairs", metavar="N", type=whole_number(2), help="number of pairs of blocks (default: 10)")
    how.add_argument(
        "--block-s", metavar="S", type=seconds, help="duration of a block in seconds (default: computed from --budget)"
    )
    how.add_argument(
        "--primary", choices=("rate", "itl_p99"), default="rate", help="metric that must improve (default: rate)"
    )
    how.add_argument(
        "--most-foreign",
        metavar="PCT",
        type=number(0, 100, unit="percent"),
        default=5.0,
        help="reject a block if other processes used more of the CPU time (default: 5)",
    )
    how.add_argument(
        "--seed", metavar="N", type=int, help="seed of the block order and the tests (default: from the clock, and printed)"
    )
    how.add_argument("--keep", action="store_true", help="leave the change applied when the verdict is keep")
    how.add_argument("--dry-run", action="store_true", help="print what would be done and how long it would take")


def main(arguments: argparse.Namespace) -> int:
    """Exit status 1 when a proof was refused, or no resource could be ranked, else 0: "no effect" and "revert" are results.

    Raises UsageError for words that are none, PreflightError for what cannot be proved on this host; what it changed is
    taken back then.
    """
    if arguments.what == "list":
        return _list(arguments)
    if not (arguments.setting or arguments.knob or arguments.plan or arguments.sensitivity):
        raise UsageError("no change to test was given", hint="Give --setting S=VALUE, --knob K, --plan, or --sensitivity.")
    check_page(arguments.html)
    with terminal_progress() as progress:
        return _probe(arguments, progress) if arguments.sensitivity else _prove(arguments, progress)


def _prove(arguments: argparse.Namespace, progress: PhaseClock) -> int:
    seed, command = find_seed(arguments)
    outcome = prove.prove(
        parse_subject(arguments),
        parse_request(arguments, seed),
        progress,
        command=command,
        primary=arguments.primary,
        keep=arguments.keep,
        dry_run=arguments.dry_run,
    )
    if arguments.dry_run:
        return 0
    if arguments.html:
        prove.write_proof_page(arguments.html, outcome.summary)
        progress.note(f"wrote {arguments.html}")
    progress.close()
    record = {"schema": 1, "judgement": outcome.judgement, "proofs": [asdict(proof) for proof in outcome.proofs]}
    print_result(arguments, record, render_table(outcome.summary, this_screen()), indent=None)
    return 1 if outcome.judgement is Judgement.REFUSED else 0


def _probe(arguments: argparse.Namespace, progress: PhaseClock) -> int:
    seed, _ = find_seed(arguments)
    profile = prove.probe(parse_request(arguments, seed), progress, dry_run=arguments.dry_run)
    progress.close()
    if profile is None:
        return 0
    rows = [asdict(sensitivity) for sensitivity in profile.sensitivities]
    print_result(arguments, {"schema": 1, **asdict(profile)}, render_sensitivities(rows), indent=None)
    return 0 if rows else 1


def _list(arguments: argparse.Namespace) -> int:
    found = prove.list_proofs()
    listed = [(record.proof, str(record.path), record.expired) for record in found.records]
    text = "".join(render_record(*row) for row in listed) or f"no proofs in {found.directory}\n"
    return print_result(arguments, {"schema": 1, "proofs": [proof_object(*row) for row in listed]}, text, indent=None)
