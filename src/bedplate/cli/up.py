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
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bedplate.cli.argument_types import seconds, whole_number
from bedplate.errors import BedplateError, UsageError
from bedplate.model.launch import KNOWN_ANSWER
from bedplate.model.machine import DEFAULT_PORT, DEFAULT_TIMEOUT_S, MOST_CPUS, AccelChoice, BootMode
from bedplate.model.units import parse_size, render_seconds

if TYPE_CHECKING:
    from bedplate.flows.up import UpOutcome, UpRequest
    from bedplate.report.progress import PhaseClock

QUESTION = "What is bedplate?"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `bedplate up`. Most have no default here: what is not given is decided by the flow, from this host."""
    machine = parser.add_argument_group("the machine")
    machine.add_argument("--memory", type=_size, metavar="SIZE", help="memory of the machine, such as 4G (default: 2G)")
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
    from bedplate.cli.terminal import terminal_progress
    from bedplate.flows.places import find_log
    from bedplate.flows.up import up

    _check(arguments)
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
    from bedplate.flows.up import UpRequest

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
    from bedplate.flows.ask import ask, list_served

    machine = ready.machine
    # A closed front lists its models for holders of a key alone, and `up` holds none.
    served = machine.models if machine.tls else list_served(machine.endpoint)
    missing = [model for model in machine.models if model not in served]
    if missing:
        progress.note(f"not served: {', '.join(missing)}; why: bedplate shell -c 'bedplate serve show'")
    model = next((model for model in machine.models if model in served), served[0])
    progress.close()
    spent_s: dict[str, float] = {}
    for phase in progress.times:
        if phase.depth == 0:  # a phase may be entered twice: image and engine are built with the same tools
            spent_s[phase.name] = spent_s.get(phase.name, 0.0) + phase.seconds
    phases = [{"name": name, "seconds": round(spent, 2)} for name, spent in spent_s.items()]
    if not arguments.json:
        _print_endpoint(ready, model)
        for name, spent in spent_s.items():
            print(f"  {name:<26} {render_seconds(spent):>12}")
        print(flush=True)
    answer = ""
    if not arguments.no_ask and not machine.tls:
        if not arguments.json:
            print(f"> {QUESTION}", flush=True)
        started = time.monotonic()
        for piece in ask(QUESTION, endpoint=machine.endpoint, model=model).pieces:
            answer += piece
            if not arguments.json:
                print(piece, end="", flush=True)
        if not arguments.json:
            print(f'\n\n({render_seconds(time.monotonic() - started)}; ask more: bedplate ask "...")', flush=True)
        if not answer.strip():
            raise BedplateError(f"{model}: the answer was empty", hint="See bedplate logs.")
    if arguments.json:
        print(json.dumps(_record(ready, model) | {"already_up": False, "phases": phases, "answer": answer}))


def _say_already(arguments: argparse.Namespace, found: UpOutcome) -> int:
    machine = found.machine
    model = (arguments.model or machine.models or [KNOWN_ANSWER])[0]
    if arguments.json:
        print(json.dumps(_record(found, model) | {"already_up": True, "phases": [], "answer": ""}))
    else:
        print(f"The machine is already running, for {render_seconds(time.time() - machine.since)} (process {machine.pid}).")
        _print_endpoint(found, model)
    return 0


def _record(outcome: UpOutcome, model: str) -> dict[str, object]:
    machine = outcome.machine
    return {
        "schema": 1,
        "image": machine.version,
        "mode": machine.mode,
        "accel": machine.accel,
        "endpoint": machine.endpoint,
        "model": model,
        "models": list(machine.models),
    }


def _print_endpoint(outcome: UpOutcome, model: str) -> None:
    from bedplate.report.endpoint import render_endpoint

    machine = outcome.machine
    names = ", ".join(machine.models) or model
    text = render_endpoint(
        version=machine.version, models=names, url=machine.endpoint, model=model, question=QUESTION, tls=machine.tls
    )
    print(text, end="")


def _check(arguments: argparse.Namespace) -> None:
    if arguments.engine is not None and not arguments.engine.is_file():
        raise UsageError(f"--engine: {arguments.engine}: no such file")


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
