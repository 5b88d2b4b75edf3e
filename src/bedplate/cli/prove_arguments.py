"""From the words of `bedplate prove` to what is to be proved, how it is measured, and a seed."""

from __future__ import annotations

import argparse
import shlex
import sys
import time

from bedplate.cli.argument_types import parse_time
from bedplate.errors import UsageError
from bedplate.flows.prove import ExperimentRequest, SubjectRequest, parse_antagonists
from bedplate.flows.victim import DispatchRequest, EngineRequest, TraceRequest
from bedplate.model.tuning import Policy


def parse_subject(arguments: argparse.Namespace) -> SubjectRequest:
    """What is to be proved: a setting, a row of the catalog, or the whole plan.

    Raises UsageError for a setting without a value.
    """
    policy = Policy(arguments.policy)
    if not arguments.setting:
        return SubjectRequest(knob=arguments.knob or None, policy=policy)
    name, equals, value = arguments.setting.rpartition("=")
    if not equals or not name or not value:
        raise UsageError(f"--setting {arguments.setting!r}: expected NAME=VALUE", hint="Such as vm.stat_interval=10.")
    return SubjectRequest(setting=(name, value), policy=policy)


def parse_request(arguments: argparse.Namespace, seed: int) -> ExperimentRequest:
    """How it is measured: the victim, its neighbours, and the time for it. Raises UsageError for words that are none."""
    return ExperimentRequest(
        victim=_parse_victim(arguments),
        seed=seed,
        antagonists=parse_antagonists(arguments.antagonist),
        level_pct=arguments.level,
        neighbour_place=tuple(arguments.neighbour_place or ()),
        scratch=arguments.scratch,
        budget_s=parse_time(arguments.budget, "--budget", "a time such as 20m, 90s or 1h", least_s=0.001),
        pairs=arguments.pairs,
        block_s=arguments.block_s,
        most_foreign=arguments.most_foreign / 100,
    )


def _parse_victim(arguments: argparse.Namespace) -> DispatchRequest | EngineRequest:
    if arguments.window and not arguments.trace:
        raise UsageError("--window: is a part of a trace", hint="Give --trace FILE, too.")
    if arguments.victim == "dispatch":
        if arguments.trace:
            raise UsageError(
                f"--trace {arguments.trace}: the dispatch loop gets no requests", hint="Give the engine, too: --victim URL."
            )
        place = tuple(arguments.victim_place or ())
        return DispatchRequest(period_s=arguments.period_ms / 1000, work_s=arguments.work_ms / 1000, place=place)
    tokens_in, tokens_out = _two(arguments.tokens, "--tokens", "32:64")
    ttft_s, tpot_s = _two(arguments.slo, "--slo", "2:0.2")
    trace = None
    if arguments.trace:
        trace = TraceRequest(
            file=arguments.trace,
            window=arguments.window,
            scale_tokens=arguments.scale_tokens,
            scale_time=arguments.scale_time,
        )
    return EngineRequest(
        url=arguments.victim,
        model=arguments.model,
        pids=tuple(arguments.engine_pid),
        streams=arguments.streams,
        input_tokens=int(tokens_in),
        output_tokens=int(tokens_out),
        ttft_s=ttft_s,
        tpot_s=tpot_s,
        trace=trace,
    )


def find_seed(arguments: argparse.Namespace) -> tuple[int, str]:
    """The seed of --seed, else of the clock, below 1,000,000; and the command that makes the same experiment again."""
    words = ["bedplate", "prove", *sys.argv[2:]] if len(sys.argv) > 1 and sys.argv[1] == "prove" else ["bedplate", "prove"]
    if arguments.seed is not None:
        return int(arguments.seed), shlex.join(words)
    seed = int(time.time()) % 1_000_000
    return seed, shlex.join([*words, "--seed", str(seed)])


def _two(text: str, option: str, example: str) -> tuple[float, float]:
    first, colon, second = text.partition(":")
    try:
        if not colon:
            raise ValueError(text)
        return float(first), float(second)
    except ValueError:
        raise UsageError(f"{option} {text!r}: expected two numbers such as {example}") from None
