"""Bring this host's machine up, from whatever is there: build what is missing, boot it, wait until it serves. And down."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bedplate.act.files import digest_file
from bedplate.act.lock import hold_lock
from bedplate.act.paths import Paths, find_paths
from bedplate.errors import BusyError, ReadError, UsageError
from bedplate.flows.model import check_servable
from bedplate.flows.preflight import Ready, ensure_ready
from bedplate.host.system.buildhost import find_mirror
from bedplate.image.build import build_image, find_current
from bedplate.image.engine import build_engine, find_engine
from bedplate.image.keys import ensure_keys
from bedplate.image.machine import (
    POWERDOWN_S,
    Machine,
    clear_stale,
    kill_machine,
    read_machine,
    start_machine,
    stop_machine,
    wait_ready,
)
from bedplate.image.models_disk import ensure_models_disk
from bedplate.image.published import find_image
from bedplate.image.qemu import BootOptions
from bedplate.image.recipe import Variant
from bedplate.interrupts import hold_signals
from bedplate.model.buildhost import Wishes
from bedplate.model.launch import KNOWN_ANSWER, ModelRef
from bedplate.model.machine import (
    DEFAULT_MEMORY_BYTES,
    DEFAULT_PORT,
    DEFAULT_TIMEOUT_S,
    MOST_CPUS,
    Accel,
    AccelChoice,
    BootMode,
)
from bedplate.model.progress import Progress
from bedplate.model.units import render_size
from bedplate.plan.preflight import check_models_fit
from bedplate.weights.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class UpRequest:
    """The machine that is asked for; None: what is usual, and whatever a machine that runs already has."""

    memory_bytes: int | None = None
    cpus: int | None = None
    port: int | None = None
    accel: AccelChoice = AccelChoice.AUTO
    mode: BootMode | None = None
    fresh: bool = False
    """A new disk and TPM instead of the last machine's."""
    open_network: bool = False
    models: tuple[str, ...] = ()
    """Names in the store; (): the known-answer model."""
    image: str | None = None
    """Version of a built image; None: that of the recipe, built where it is missing."""
    engine: Path | None = None
    install: bool = True
    """Whether missing packages may be installed on this host."""
    timeout_s: float = DEFAULT_TIMEOUT_S
    """Of the boot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpOutcome:
    """The machine that serves now, whether `up` started it or found it."""

    machine: Machine
    already_up: bool
    """It served before, and nothing was done."""

    def make_record(self, model: str, *, spent_s: Mapping[str, float] | None = None, answer: str = "") -> dict[str, Any]:
        """For JSON, as `bedplate up --json` prints it. spent_s: seconds of each phase; answer: of `model`, "" unasked."""
        machine = self.machine
        return {
            "schema": 1,
            "image": machine.version,
            "mode": machine.mode,
            "accel": machine.accel,
            "endpoint": machine.endpoint,
            "model": model,
            "models": list(machine.models),
            "already_up": self.already_up,
            "phases": [{"name": name, "seconds": round(spent, 2)} for name, spent in (spent_s or {}).items()],
            "answer": answer,
        }


def up(
    request: UpRequest,
    progress: Progress,
    *,
    paths: Paths | None = None,
    keep: bool = False,
    on_ready: Callable[[UpOutcome], None] | None = None,
) -> UpOutcome:
    """A machine that serves. After a failure nothing that was started runs, unless keep.

    on_ready is called with a machine that has just begun to serve; its failure counts as a failure of the machine. Raises
    UsageError for an engine that is no file, BusyError when a machine runs that is not what is asked for, PreflightError for
    a host that cannot carry it.
    """
    if request.engine is not None and not request.engine.is_file():
        raise UsageError(f"--engine: {request.engine}: no such file")
    paths = paths or find_paths()
    with hold_lock(paths, "up"):
        machine = read_machine(paths)
        if machine is not None and (differing := find_differences(request, machine)):
            raise BusyError(
                f"another machine is already running (process {machine.pid}): {'; '.join(differing)}",
                hint="Stop it with `bedplate down`, or omit these options to use it as it is.",
            )
        if machine is not None and machine.ready:
            return UpOutcome(machine=machine, already_up=True)
        if machine is None and clear_stale(paths):
            progress.note("the last machine had stopped by itself; what it left behind was removed")
        try:
            if machine is None:
                machine = _start(request, paths, progress)
            else:
                progress.note(f"a machine of an interrupted `up` is booting (process {machine.pid}); taking it over")
            with progress.phase("boot and load the model"):
                machine = wait_ready(machine, progress, timeout_s=request.timeout_s)
            if on_ready is not None:
                on_ready(UpOutcome(machine=machine, already_up=False))
        except BaseException:
            if not keep:
                with hold_signals():
                    kill_machine(paths)
            raise
    return UpOutcome(machine=machine, already_up=False)


def down(
    progress: Progress, *, paths: Paths | None = None, by_force: bool = False, powerdown_s: float | None = None
) -> bool:
    """Power the machine off and leave no process; whether one ran. powerdown_s: how long the guest may take."""
    paths = paths or find_paths()
    with hold_lock(paths, "down"):
        if read_machine(paths) is None:
            clear_stale(paths)
            return False
        if by_force:
            kill_machine(paths)
        else:
            with progress.phase("power off"):
                stop_machine(paths, progress, powerdown_s=POWERDOWN_S if powerdown_s is None else powerdown_s)
        return True


def find_differences(request: UpRequest, machine: Machine) -> list[str]:
    """What is asked for and not what the machine is, one phrase an option; an option that was not given asks for nothing."""
    asked: list[tuple[str, object, object]] = [
        ("--port", request.port, machine.port),
        ("--cpus", request.cpus, machine.cpus),
        ("--accel", None if request.accel is AccelChoice.AUTO else request.accel.value, machine.accel),
        ("--image", request.image, machine.version),
        ("boot", request.mode.value if request.mode is not None else None, machine.mode),
        ("--engine", request.engine and str(request.engine.absolute()), machine.engine),
    ]
    found = [f"{name} {wanted} is asked for, it has {has}" for name, wanted, has in asked if wanted not in (None, has)]
    if request.memory_bytes not in (None, machine.memory_bytes):
        assert request.memory_bytes is not None
        has = render_size(machine.memory_bytes)
        found.append(f"--memory {render_size(request.memory_bytes)} is asked for, it has {has}")
    missing = [name for name in request.models if name not in machine.models]
    if missing:
        found.append(f"--model {', '.join(missing)} is asked for, it serves {', '.join(machine.models)}")
    if request.open_network and not machine.open_network:
        found.append("--open-network is asked for, its network is closed")
    if request.fresh:
        found.append("--fresh is given, but the machine runs on its old disk")
    return found


_ENGINE = "llamacpp"
"""The engine whose layer a machine of `up` has as a disk."""


def _start(request: UpRequest, paths: Paths, progress: Progress) -> Machine:
    mode = request.mode or BootMode.DIRECT
    memory_bytes = request.memory_bytes if request.memory_bytes is not None else DEFAULT_MEMORY_BYTES
    port = request.port if request.port is not None else DEFAULT_PORT
    with progress.phase("preflight"):
        progress.detail("the image and its inputs")
        image = find_image(paths, request.image) if request.image else find_current(paths)
        engine = request.engine or _find_engine(paths)
        wishes = Wishes(
            build=image is None or engine is None,
            guest_memory_bytes=memory_bytes,
            secure_boot=mode is BootMode.SECURE,
            uefi=mode is BootMode.UEFI,
            tpm=True,
            mirror=find_mirror(),
        )
        ready = ensure_ready(paths, wishes, progress, port=port, choice=request.accel, install=request.install)
        cpus = request.cpus or _default_cpus(ready)
    with progress.phase("models"):
        models = _find_models(paths, request.models or (KNOWN_ANSWER,), progress)
        for model in models:  # before anything starts: it would be waited for in vain
            check_servable(model, (), paths, wanted=_ENGINE)
        check_models_fit(models, guest_memory_bytes=memory_bytes, cpus=cpus)
    if image is None:
        image = build_image(paths, progress, mirror=wishes.mirror)
    if engine is None:
        engine = build_engine(paths, progress, mirror=wishes.mirror).path
        for model in models:  # now that it is known what the engine loads
            check_servable(model, (), paths, wanted=_ENGINE)
    with progress.phase("models disk"):
        production = image.variant is Variant.PRODUCTION
        disk = ensure_models_disk(paths, models, progress, keys=ensure_keys(paths) if production else None)
    with progress.phase("start the machine"):
        options = BootOptions(
            mode=mode,
            accel=ready.accel,
            port=port,
            memory_bytes=memory_bytes,
            cpus=cpus,
            engine=str(engine.absolute()),
            models=str(disk),
            firmware=ready.host.secure_firmware if mode is BootMode.SECURE else ready.host.firmware,
            # The console shows each unit as it starts; a signed UKI brings its own command line.
            # Production's initrd takes no other one in a direct boot either.
            extra_cmdline="systemd.show_status=1" if mode is BootMode.DIRECT and not production else "",
            open_network=request.open_network,
        )
        names = tuple(model.name for model in models)
        return start_machine(paths, image, options, ready.programs, progress, models=names, fresh=request.fresh)


def _default_cpus(ready: Ready) -> int:
    # Emulated CPUs take turns on one thread (see image/qemu.py): more of them only cost.
    return min(ready.host.cpus, MOST_CPUS) if ready.accel is Accel.KVM else 1


def _find_models(paths: Paths, names: tuple[str, ...], progress: Progress) -> list[ModelRef]:
    store = Store(paths.models)
    if KNOWN_ANSWER in names:
        shipped = _shipped_model()
        if digest_file(shipped) not in {model.sha256 for model in store.models() if model.name == KNOWN_ANSWER}:
            store.add(shipped, progress=progress, name=KNOWN_ANSWER, overwrite=True)  # new, or of another bedplate
    return [store.find(name) for name in dict.fromkeys(names)]


def _shipped_model() -> Path:
    import bedplate

    path = Path(bedplate.__file__).parent / "catalog/known_answer/known-answer.gguf"
    if not path.is_file():
        raise ReadError(f"{path}: the known-answer model is missing", hint="Install bedplate again, or give --model NAME.")
    return path


def _find_engine(paths: Paths) -> Path | None:
    layer = find_engine(paths)
    return layer.path if layer is not None else None
