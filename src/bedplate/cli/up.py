"""Build the image if its inputs changed, boot it, wait for the model, and stream one real answer from it.

examples:
  bedplate up                          everything with the defaults
  bedplate up --model qwen3-0.6b --memory 4G --cpus 4
  bedplate up --secure-boot            the whole chain: UEFI, enrolled keys, signed image, TPM
  bedplate up --image 0.1~1a2b3c4d     boot an image that was built before
  bedplate up --json --no-ask          for scripts

Ends with 0 when it serves, also when it did before. After a failure or Ctrl-C nothing that it started runs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bedplate.errors import BedplateError, ReadError, UsageError
from bedplate.model.units import GIB, parse_size, render_seconds

if TYPE_CHECKING:
    from bedplate.act.paths import Paths
    from bedplate.cli.preflight import Ready
    from bedplate.cli.terminal import PhaseClock
    from bedplate.image.machine import Machine
    from bedplate.image.manifest import Image
    from bedplate.model.launch import ModelRef

HELP = "build the image if its inputs changed, boot it, and stream an answer from the model on it"
QUESTION = "What is bedplate?"
KNOWN_ANSWER = "known-answer"
_DEFAULT_PORT = 8080
_DEFAULT_TIMEOUT_S = 900.0
_MOST_CPUS = 4  # by default; beyond them a small model gains nothing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    machine = parser.add_argument_group("the machine")
    machine.add_argument("--memory", type=_size, default=2 * GIB, metavar="SIZE", help="such as 4G (default: 2G)")
    machine.add_argument("--cpus", type=int, metavar="N", help=f"default: this host's, up to {_MOST_CPUS}; 1 without KVM")
    machine.add_argument("--port", type=int, default=_DEFAULT_PORT, metavar="N", help=f"on 127.0.0.1 ({_DEFAULT_PORT})")
    machine.add_argument("--accel", choices=["auto", "kvm", "tcg"], default="auto", help="auto tries KVM first")
    boot = machine.add_mutually_exclusive_group()
    boot.add_argument("--secure-boot", action="store_true", help="UEFI with Secure Boot; slower")
    boot.add_argument("--uefi", action="store_true", help="UEFI without Secure Boot")
    machine.add_argument("--fresh", action="store_true", help="a new disk and TPM instead of the last machine's")
    machine.add_argument("--open-network", action="store_true", help="let the guest reach the host and the network")
    what = parser.add_argument_group("what it serves")
    what.add_argument("--model", action="append", metavar="NAME", help=f"of the store; repeatable ({KNOWN_ANSWER})")
    what.add_argument("--image", metavar="VERSION", help="boot this built image instead of the recipe's")
    what.add_argument("--engine", type=Path, metavar="FILE", help="use this engine layer instead of building it")
    parser.add_argument("--no-ask", action="store_true", help="do not stream an answer at the end")
    parser.add_argument("--no-install", action="store_true", help="never install packages on this host")
    parser.add_argument("--keep", action="store_true", help="after a failure leave the machine running, to look at it")
    parser.add_argument("--timeout", type=float, default=_DEFAULT_TIMEOUT_S, metavar="SECONDS", help="of the boot (900)")
    parser.add_argument("--json", action="store_true", help="the outcome as one JSON object")


def main(arguments: argparse.Namespace) -> int:
    from bedplate.act.lock import hold_lock
    from bedplate.act.paths import find_paths
    from bedplate.act.process import hold_signals
    from bedplate.cli.signals import signals_interrupt
    from bedplate.cli.terminal import terminal_progress
    from bedplate.image.machine import clear_stale, kill_machine, read_machine

    _check(arguments)
    paths = find_paths()
    with signals_interrupt(), hold_lock(paths, "up"), terminal_progress(paths.logs / "up.log") as progress:
        machine = read_machine(paths)
        if machine is not None and machine.ready:
            return _say_already(arguments, machine)
        if machine is None and clear_stale(paths):
            progress.note("the last machine had ended by itself; what it left behind is cleared away")
        try:
            if machine is None:
                machine = _start(arguments, paths, progress)
            else:
                progress.note(
                    f"a machine of an `up` that was broken off is booting (process {_pid(machine)}); taking it over"
                )
            machine = _wait(machine, progress, timeout_s=arguments.timeout)
            _say_up(arguments, machine, progress)
        except BaseException as error:
            progress.close()
            if not arguments.keep:
                with hold_signals():
                    kill_machine(paths)
            if isinstance(error, BedplateError) and progress.failed_phase is not None:
                error.message = f"{progress.failed_phase}: {error.message}"
            raise
    return 0


def _start(arguments: argparse.Namespace, paths: Paths, progress: PhaseClock) -> Machine:
    from bedplate.cli.preflight import ensure_ready
    from bedplate.host.buildhost import find_mirror
    from bedplate.image.build import build_image, find_current
    from bedplate.image.engine import build_engine
    from bedplate.image.kvm import AccelChoice
    from bedplate.image.machine import start_machine
    from bedplate.image.models_disk import ensure_models_disk
    from bedplate.image.qemu import BootMode, BootOptions
    from bedplate.model.buildhost import Wishes
    from bedplate.plan.preflight import check_models_fit

    mode = BootMode.SECURE if arguments.secure_boot else BootMode.UEFI if arguments.uefi else BootMode.DIRECT
    with progress.phase("preflight"):
        progress.detail("the image and its inputs")
        image = _find_image(paths, arguments.image) if arguments.image else find_current(paths)
        engine = arguments.engine or _find_engine(paths)
        wishes = Wishes(
            build=image is None or engine is None,
            guest_memory_bytes=arguments.memory,
            secure_boot=mode is BootMode.SECURE,
            uefi=mode is BootMode.UEFI,
            tpm=True,
            mirror=find_mirror(),
        )
        ready = ensure_ready(
            paths,
            wishes,
            progress,
            port=arguments.port,
            choice=AccelChoice(arguments.accel),
            install=not arguments.no_install,
        )
        cpus = arguments.cpus or _default_cpus(ready)
    with progress.phase("models"):
        models = _find_models(paths, arguments.model or [KNOWN_ANSWER], progress)
        check_models_fit(models, guest_memory_bytes=arguments.memory, cpus=cpus)
    if image is None:
        image = build_image(paths, progress, mirror=wishes.mirror)
    if engine is None:
        engine = build_engine(paths, progress, mirror=wishes.mirror).path
    with progress.phase("models disk"):
        disk = ensure_models_disk(paths, models, progress)
    with progress.phase("start the machine"):
        options = BootOptions(
            mode=mode,
            accel=ready.accel,
            port=arguments.port,
            memory_bytes=arguments.memory,
            cpus=cpus,
            engine=str(engine.absolute()),
            models=str(disk),
            firmware=ready.host.secure_firmware if mode is BootMode.SECURE else ready.host.firmware,
            # The console shows each unit as it starts; a signed UKI brings its own command line.
            extra_cmdline="systemd.show_status=1" if mode is BootMode.DIRECT else "",
            open_network=arguments.open_network,
        )
        names = tuple(model.name for model in models)
        return start_machine(paths, image, options, ready.programs, progress, models=names, fresh=arguments.fresh)


def _wait(machine: Machine, progress: PhaseClock, *, timeout_s: float) -> Machine:
    from bedplate.image.machine import wait_ready

    with progress.phase("boot and load the model"):
        return wait_ready(machine, progress, timeout_s=timeout_s)


def _say_up(arguments: argparse.Namespace, machine: Machine, progress: PhaseClock) -> None:
    """Print where it serves and stream the answer; the model's name is the first that the endpoint itself lists."""
    from bedplate.cli.chat import Chat, find_model, stream_answer

    model = find_model(machine.endpoint, timeout_s=60.0)
    progress.close()
    seconds: dict[str, float] = {}
    for one in progress.times:
        if one.depth == 0:  # a phase may be entered twice: image and engine are built with the same tools
            seconds[one.name] = seconds.get(one.name, 0.0) + one.seconds
    phases = [{"name": name, "seconds": round(spent, 2)} for name, spent in seconds.items()]
    if not arguments.json:
        _print_endpoint(machine, model)
        for name, spent in seconds.items():
            print(f"  {name:<26} {render_seconds(spent):>12}")
        print(flush=True)
    answer = ""
    if not arguments.no_ask:
        if not arguments.json:
            print(f"> {QUESTION}", flush=True)
        started = time.monotonic()
        for piece in stream_answer(Chat(endpoint=machine.endpoint, model=model, question=QUESTION)):
            answer += piece
            if not arguments.json:
                print(piece, end="", flush=True)
        if not arguments.json:
            print(f'\n\n({render_seconds(time.monotonic() - started)}; ask more: bedplate ask "...")', flush=True)
        if not answer.strip():
            raise BedplateError(f"{model}: the answer was empty", hint="See bedplate logs.")
    if arguments.json:
        print(json.dumps(_record(machine, model) | {"already_up": False, "phases": phases, "answer": answer}))


def _say_already(arguments: argparse.Namespace, machine: Machine) -> int:
    model = machine.models[0] if machine.models else KNOWN_ANSWER
    if arguments.json:
        print(json.dumps(_record(machine, model) | {"already_up": True, "phases": [], "answer": ""}))
    else:
        print(f"It is up already, for {render_seconds(time.time() - machine.since)} (process {_pid(machine)}).")
        _print_endpoint(machine, model)
    return 0


def _record(machine: Machine, model: str) -> dict[str, object]:
    return {
        "schema": 1,
        "image": machine.version,
        "mode": machine.mode,
        "accel": machine.accel,
        "endpoint": machine.endpoint,
        "model": model,
        "models": list(machine.models),
    }


def _print_endpoint(machine: Machine, model: str) -> None:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": QUESTION}]})
    print(f"\nbedplate {machine.version} serves {', '.join(machine.models) or model} at {machine.endpoint}\n")
    url = f"{machine.endpoint}/v1/chat/completions"
    print(f"  curl -s {url} -H 'Content-Type: application/json' -d {shlex.quote(body)}\n")


def _default_cpus(ready: Ready) -> int:
    # Emulated CPUs take turns on one thread (see image/qemu.py): more of them only cost.
    from bedplate.image.kvm import Accel

    return min(ready.host.cpus, _MOST_CPUS) if ready.accel is Accel.KVM else 1


def _find_image(paths: Paths, version: str) -> Image:
    from bedplate.image.build import list_images

    images = {image.version: image for image in list_images(paths)}
    if version not in images:
        raise UsageError(f"--image: {version}: no such image; there are: {', '.join(images) or 'none'}")
    return images[version]


def _find_models(paths: Paths, names: list[str], progress: PhaseClock) -> list[ModelRef]:
    from bedplate.act.store import Store

    store = Store(paths.models)
    if KNOWN_ANSWER in names:
        shipped = _shipped_model()
        with shipped.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest not in {model.sha256 for model in store.models() if model.name == KNOWN_ANSWER}:
            store.add(shipped, progress=progress, name=KNOWN_ANSWER, overwrite=True)  # new, or of another bedplate
    return [store.find(name) for name in dict.fromkeys(names)]


def _shipped_model() -> Path:
    import bedplate

    path = Path(bedplate.__file__).parent / "catalog/known_answer/known-answer.gguf"
    if not path.is_file():
        raise ReadError(f"{path}: the known-answer model is not there", hint="Install bedplate again, or give --model NAME.")
    return path


def _find_engine(paths: Paths) -> Path | None:
    from bedplate.image.engine import find_engine

    layer = find_engine(paths)
    return layer.path if layer is not None else None


def _check(arguments: argparse.Namespace) -> None:
    if arguments.cpus is not None and not 1 <= arguments.cpus <= 255:
        raise UsageError(f"--cpus: got {arguments.cpus}, expected 1 to 255")
    if not 1 <= arguments.port <= 65535:
        raise UsageError(f"--port: got {arguments.port}, expected 1 to 65535")
    if arguments.timeout <= 0:
        raise UsageError(f"--timeout: got {arguments.timeout:g}, expected more than 0 seconds")
    if arguments.engine is not None and not arguments.engine.is_file():
        raise UsageError(f"--engine: {arguments.engine}: no such file")


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _pid(machine: Machine) -> int:
    return machine.qemu.pid if machine.qemu is not None else 0
