"""Build the image if its inputs changed, boot it, wait for the model, and stream one real answer from it.

examples:
  bedplate up                          use the defaults
  bedplate up --model qwen3-0.6b --memory 4G --cpus 4
  bedplate up --secure-boot            boot the full chain: UEFI, enrolled keys, signed image, TPM
  bedplate up --image 0.1~1a2b3c4d     boot an image that was built before
  bedplate up --json --no-ask          print JSON, for scripts

Exit status: 0 when the machine serves, also if it was already running; 5 when a machine is running that was started with
other options. After a failure or Ctrl-C, everything that this command started has been stopped.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from bedplate.cli.argument_types import seconds, size, whole_number
from bedplate.cli.result import print_result
from bedplate.cli.terminal import terminal_progress
from bedplate.errors import BedplateError
from bedplate.flows.ask import ask, choose_served
from bedplate.flows.places import find_log
from bedplate.flows.up import UpOutcome, UpRequest, up
from bedplate.model.launch import KNOWN_ANSWER
from bedplate.model.machine import DEFAULT_PORT, DEFAULT_TIMEOUT_S, MOST_CPUS, AccelChoice, BootMode
from bedplate.model.units import render_seconds
from bedplate.report.endpoint import render_endpoint
from bedplate.report.progress import PhaseClock

QUESTION = "What is bedplate?"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `bedplate up`. Most have no default here: what is not given is decided by the flow, from this host."""
    machine = parser.add_argument_group("the machine")
    machine.add_argument("--memory", type=size, metavar="SIZE", help="memory of the machine, such as 4G (default: 2G)")
    machine.add_argument(
        "--cpus",
        type=whole_number(1, 255),
        metavar="N",
        help=f"number of CPUs (default: all of this host, at most {MOST_CPUS}; 1 without KVM)",
    )
    machine.add_argument(
        "--port",
        type=whole_number(1, 65535),
        metavar="N",
        help=f"port on 127.0.0.1 that serves the API (default: {DEFAULT_PORT})",
    )
    machine.add_argument(
        "--accel", choices=["auto", "kvm", "tcg"], help="how to run the CPUs: auto tries KVM first (default: auto)"
    )
    boot = machine.add_mutually_exclusive_group()
    boot.add_argument(
        "--secure-boot",
        action="store_true",
        help="boot UEFI with Secure Boot and keys that the guest cannot change (SMM); slower",
    )
    boot.add_argument(
        "--uefi",
        action="store_true",
        help="boot UEFI without SMM: Secure Boot as the firmware sets it, with unprotected keys",
    )
    machine.add_argument("--fresh", action="store_true", help="use a new disk and TPM instead of those of the last machine")
    machine.add_argument("--open-network", action="store_true", help="let the guest connect to the host and the network")
    what = parser.add_argument_group("the software")
    what.add_argument(
        "--model",
        action="append",
        metavar="NAME",
        help=f"model from the store to serve; repeatable (default: {KNOWN_ANSWER})",
    )
    what.add_argument("--image", metavar="VERSION", help="boot this existing image instead of building the recipe")
    what.add_argument("--engine", type=Path, metavar="FILE", help="use this engine layer instead of building it")
    parser.add_argument("--no-ask", action="store_true", help="do not stream an answer at the end")
    parser.add_argument("--no-install", action="store_true", help="never install packages on this host")
    parser.add_argument("--keep", action="store_true", help="leave the machine running after a failure, for debugging")
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=DEFAULT_TIMEOUT_S,
        metavar="SECONDS",
        help="how long the boot may take (default: %(default).0f)",
    )
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")


def main(arguments: argparse.Namespace) -> int:
    """Exit status 0 when the machine serves, and has answered unless --no-ask; also when the same machine already ran.

    Raises BedplateError with the phase that failed before its message; the machine was ended then, unless --keep.
    """
    with terminal_progress(find_log("up")) as progress:
        try:
            outcome = up(
                _request(arguments),
                progress,
                keep=arguments.keep,
                on_ready=lambda ready: _say_up(arguments, ready, progress),
            )
        except BedplateError as error:
            if progress.failed_phase is not None:
                error.message = f"{progress.failed_phase}: {error.message}"
            raise
        return _say_already(arguments, outcome) if outcome.already_up else 0


def _request(arguments: argparse.Namespace) -> UpRequest:
    mode = BootMode.SECURE if arguments.secure_boot else BootMode.UEFI if arguments.uefi else None
    return UpRequest(
        memory_bytes=arguments.memory,
        cpus=arguments.cpus,
        port=arguments.port,
        accel=AccelChoice(arguments.accel or AccelChoice.AUTO),
        mode=mode,
        fresh=arguments.fresh,
        open_network=arguments.open_network,
        models=tuple(arguments.model or ()),
        image=arguments.image,
        engine=arguments.engine,
        install=not arguments.no_install,
        timeout_s=arguments.timeout,
    )


def _say_up(arguments: argparse.Namespace, ready: UpOutcome, progress: PhaseClock) -> None:
    """Print where it serves and stream the answer of the first model that was asked for and is there."""
    machine = ready.machine
    model, missing = choose_served(machine.models, machine.endpoint, closed=machine.tls)
    if missing:
        progress.note(f"not served: {', '.join(missing)}; why: bedplate shell -c 'bedplate serve show'")
    progress.close()
    spent_s = progress.sum_outer()
    if not arguments.json:
        print(_render_endpoint(ready, model), end="")
        for name, spent in spent_s.items():
            print(f"  {name:<26} {render_seconds(spent):>12}")
        print(flush=True)
    # A closed front answers holders of a key alone, and `up` holds none.
    answer = "" if arguments.no_ask or machine.tls else _stream_answer(machine.endpoint, model, silent=arguments.json)
    if arguments.json:
        print_result(arguments, ready.make_record(model, spent_s=spent_s, answer=answer), "", indent=None)


def _stream_answer(endpoint: str, model: str, *, silent: bool) -> str:
    if not silent:
        print(f"> {QUESTION}", flush=True)
    started = time.monotonic()
    answer = ""
    for piece in ask(QUESTION, endpoint=endpoint, model=model).pieces:
        answer += piece
        if not silent:
            print(piece, end="", flush=True)
    if not silent:
        print(f'\n\n({render_seconds(time.monotonic() - started)}; ask more: bedplate ask "...")', flush=True)
    if not answer.strip():
        raise BedplateError(f"{model}: the answer was empty", hint="See bedplate logs.")
    return answer


def _say_already(arguments: argparse.Namespace, found: UpOutcome) -> int:
    machine = found.machine
    model = (arguments.model or machine.models or [KNOWN_ANSWER])[0]
    since = f"for {render_seconds(time.time() - machine.since)} (process {machine.pid})"
    text = f"The machine is already running, {since}.\n{_render_endpoint(found, model)}"
    return print_result(arguments, found.make_record(model), text, indent=None)


def _render_endpoint(outcome: UpOutcome, model: str) -> str:
    machine = outcome.machine
    names = ", ".join(machine.models) or model
    return render_endpoint(
        version=machine.version, models=names, url=machine.endpoint, model=model, question=QUESTION, tls=machine.tls
    )
