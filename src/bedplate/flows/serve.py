"""Serve the models of this host: which, by which engine, with which limits, behind the front door.

`show` reads and decides; `prepare` also writes it to /run/bedplate and starts the units. On a machine that serves already it
changes only the engines whose model came, changed or left (flows/rollout.py). A model that cannot be served is reported and
left out; the others are served all the same.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from bedplate import __version__
from bedplate.act.consoles import write_consoles
from bedplate.act.front_files import RELOAD, read_owed, settle_front
from bedplate.act.serving import (
    FrontTexts,
    Served,
    compare_serving,
    hold_serving,
    is_any_layer_mounted,
    is_mounted_layer,
    is_signed_layer,
    offer_huge_pages,
    read_plans,
    remove_engines,
    start_serving,
    write_engines,
    write_front_texts,
)
from bedplate.engines import Engine, engines_for
from bedplate.errors import BedplateError, CommandError, ModelRefused, ModelTooLarge, ReadError
from bedplate.flows.front import (
    FrontSetting,
    apply_front,
    key_rules_of,
    listeners_of,
    read_front_setting,
    write_front,
)
from bedplate.front.haproxy import NO_TOKENS, STATS_SOCKET, render_haproxy
from bedplate.front.keys import FRONT_DIRECTORY
from bedplate.front.routes import FrontLimits, Route, make_route, plan_front, without_engine
from bedplate.front.tls import ADMIN_SOCKET
from bedplate.host.kernel.cpus import read_cpus
from bedplate.host.kernel.memory import read_memory
from bedplate.host.root.root import Root
from bedplate.model.instance import IMAGE_SCRIPT, instance_of
from bedplate.model.launch import EnginePlan, Limits, ModelRef, Placement
from bedplate.model.progress import Progress
from bedplate.model.units import render_size
from bedplate.plan.limits import memory_ceiling_bytes, plan_limits
from bedplate.plan.place import plan_placement, sort_layers

DRAIN_S = 120.0
"""How long requests of an engine that ends may take until they are cut."""
# In this order: a disk that was attached, then what was added to this host. The first of two models of one name is served.
MODEL_DIRECTORIES = ("/run/bedplate/models", "/var/lib/bedplate/models")
LAYER_DIRECTORY = "/var/lib/bedplate/engines"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One model that will be served: what its engine may take, how it is started, and how the front reaches it."""

    model: ModelRef
    engine: str
    limits: Limits
    served: Served
    route: Route


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """All that this host serves, and why it does not serve the rest."""

    placement: Placement
    services: tuple[Service, ...]
    problems: tuple[BedplateError, ...]
    front: FrontSetting
    front_limits: FrontLimits
    script: str
    """What HAProxy reads a request's body with (catalog/request.lua, with the rules of catalog/protocol.toml)."""

    @property
    def served(self) -> tuple[Served, ...]:
        """The engines, as they are to be run."""
        return tuple(service.served for service in self.services)

    def make_record(self) -> dict[str, Any]:
        """The JSON object of `bedplate serve`: CPUs, a row for each model with its limits and argv, and the problems."""
        return {
            "cpus": list(self.placement.cpus),
            "because": self.placement.because,
            "models": [
                {
                    "name": service.model.name,
                    "engine": service.engine,
                    "layer": service.served.layer,
                    "file": service.served.plan.path,
                    "context": service.limits.context,
                    "parallel": service.limits.parallel,
                    "memory_bytes": service.limits.memory_bytes,
                    "argv": list(service.served.launch.argv),
                }
                for service in self.services
            ],
            "problems": [{"message": problem.message, "hint": problem.hint} for problem in self.problems],
        }

    def render_front(self, *, exchanged: Collection[str] = (), tokens: str = NO_TOKENS) -> FrontTexts:
        """What the front is started with. exchanged: instances whose engine restarts now, which get no requests."""
        routes = [service.route for service in self.services]
        shown = [without_engine(route) if instance_of(route.model) in exchanged else route for route in routes]
        configuration = render_haproxy(
            shown,
            limits=self.front_limits,
            bind=listeners_of(self.front),
            admin_socket=ADMIN_SOCKET,
            keys=key_rules_of(self.front),
            access_log=self.front.front.access_log,
            version=__version__,
            cors=self.front.front.cors_origins,
        )
        return FrontTexts(configuration=configuration, script=self.script, tokens=tokens)


def show(root_dir: Path, *, port: int | None = None) -> Serving:
    """What is served below a directory, "/" for this host; changes nothing. port: None for that of machine.toml."""
    return _find(root_dir, port, is_signed=_is_mounted if root_dir == Path("/") else None)


def _is_mounted(path: str) -> bool:
    """Of several layers the one that is in use; the first while none is, since to look changes nothing."""
    return is_mounted_layer(path) or not is_any_layer_mounted()


def prepare(
    root_dir: Path, progress: Progress, *, port: int | None = None, drain_s: float = DRAIN_S, replan: bool = False
) -> Serving:
    """Write what is served below a directory; on this host ("/") take memory back where a model lacks it, and start what is
    not running. Requests of an engine that has to end may take drain_s to finish; engines that do not change go on.

    port: None for that of machine.toml. replan: plan the engines that run anew, too, with the memory and the CPUs of now.
    Raises CommandError when the service manager or the front refuses.
    """
    root = Root(root_dir)
    live = root_dir == Path("/")
    is_signed = _is_signed(root_dir)
    with hold_serving(root):
        front = write_front(root, _with_port(read_front_setting(root), port), progress, now_s=int(time.time()))
        if live:
            for remark in front.remarks:
                write_consoles(root, f"bedplate: {remark}")
        affinity = _affinity(root_dir)
        plans: Mapping[str, EnginePlan] | None = {} if replan else None

        def find() -> Serving:
            serving = find_serving(root, front=front.setting, affinity=affinity, is_signed=is_signed, plans=plans)
            if live and make_room(root, serving, progress):
                serving = find_serving(root, front=front.setting, affinity=affinity, is_signed=is_signed, plans=plans)
            return serving

        if live:
            try:
                offer_huge_pages(root)
            except (BedplateError, OSError) as error:  # slower, not broken: the engines start all the same
                progress.note(f"huge pages: {error}")
        if live and root.exists(STATS_SOCKET):
            from bedplate.flows.rollout import roll_out  # not for a boot

            return roll_out(root, find, progress, drain_s=drain_s, reload=not _apply(root, front.changed, progress))
        serving = find()
        remove_engines(root, compare_serving(root, serving.served).gone)
        write_engines(root, serving.served)
        write_front_texts(root, serving.render_front())
        if not root.exists(ADMIN_SOCKET):
            settle_front(root.at(FRONT_DIRECTORY))  # it does not run, and reads all of it when it starts
        if live:
            start_serving([instance_of(service.model.name) for service in serving.services])
    return serving


def _apply(root: Root, changed: Sequence[str], progress: Progress) -> bool:
    """Give the running front end its new files; False where it does not take them or is owed a reload, which reads them."""
    try:
        apply_front(root, changed)
    except CommandError as error:
        progress.note(f"the front end is reloaded: {error.message}")
        return False
    return RELOAD not in read_owed(root.at(FRONT_DIRECTORY))


def _with_port(setting: FrontSetting, port: int | None) -> FrontSetting:
    if port is None:
        return setting
    return replace(setting, config=replace(setting.config, front=replace(setting.front, port=port)))


def _find(root_dir: Path, port: int | None, *, is_signed: Callable[[str], bool] | None) -> Serving:
    return find_serving(Root(root_dir), port=port, affinity=_affinity(root_dir), is_signed=is_signed)


def _is_signed(root_dir: Path) -> Callable[[str], bool] | None:
    """Asks of each layer once; None where nobody can be asked: of another directory, and without root."""
    return cache(is_signed_layer) if root_dir == Path("/") and os.geteuid() == 0 else None


def _affinity(root_dir: Path) -> set[int] | None:
    return os.sched_getaffinity(0) if root_dir == Path("/") else None


def find_serving(
    root: Root,
    *,
    affinity: set[int] | None,
    port: int | None = None,
    front: FrontSetting | None = None,
    is_signed: Callable[[str], bool] | None = None,
    plans: Mapping[str, EnginePlan] | None = None,
) -> Serving:
    """Read the host and decide what is served; changes nothing.

    is_signed: as for `find_layer`. front: None to read it. plans: what engines were planned with, by instance, which they
    keep while their model is the same; None: as it is written below root.
    """
    setting = front or _with_port(read_front_setting(root), port)
    problems: list[BedplateError] = list(setting.problems)
    plans = read_plans(root) if plans is None else plans
    models = read_models(root, problems)
    placement = plan_placement(read_cpus(root, affinity=affinity, cgroup="inference.slice"))
    memory = read_memory(root)
    services: list[Service] = []
    promised_bytes = 0
    # Those that were planned before come first: a model that is new gets what they leave.
    for model in sorted(models, key=lambda model: not _keeps_plan(model, plans)):
        try:
            wanted = setting.config.engine_of(model.name)
            engine, layer = choose_engine(root, model, wanted=wanted, is_signed=is_signed)
            plan = plans[instance_of(model.name)] if _keeps_plan(model, plans) else None
            if plan is None or plan.engine != engine.name:
                limits = plan_limits(model, placement, memory, promised_bytes=promised_bytes, footprint=engine.footprint)
                plan = EnginePlan(
                    sha256=model.sha256, path=model.path, limits=limits, placement=placement, engine=engine.name
                )
            launch = engine.make_launch(model, plan.placement, plan.limits)
        except ModelRefused as error:
            problems.append(error)
            continue
        limits = plan.limits
        promised_bytes += limits.memory_bytes
        served = Served(
            model=model.name,
            launch=launch,
            layer=layer,
            plan=plan,
            memory_ceiling_bytes=memory_ceiling_bytes(limits, memory),
        )
        route = make_route(model, launch, limits, created=_written_s(root, model.path), engine=engine.name)
        services.append(Service(model=model, engine=engine.name, limits=limits, served=served, route=route))
    order = {model.name: number for number, model in enumerate(models)}
    return Serving(
        placement=placement,
        services=tuple(sorted(services, key=lambda service: order[service.model.name])),
        problems=tuple(problems),
        front=setting,
        front_limits=plan_front([service.limits.context for service in services], memory_bytes=memory.total_bytes),
        script=read_front_script(root),
    )


def read_front_script(root: Root) -> str:
    """HAProxy's script: as the build has written it into an image, since a boot waits for this; else made here."""
    text = root.read_text(IMAGE_SCRIPT)
    if text is not None:
        return f"{text}\n"
    from bedplate.catalog.protocol import read_protocol, read_request_script
    from bedplate.front.script import render_script

    return render_script(read_protocol(), read_request_script())


def _keeps_plan(model: ModelRef, plans: Mapping[str, EnginePlan]) -> bool:
    try:
        plan = plans.get(instance_of(model.name))
    except ModelRefused:  # its name; what it is refused with below
        return False
    return plan is not None and plan.is_of(model)


def _written_s(root: Root, path: str) -> int:
    """When a model's file was written, in seconds since 1970; 0 where nobody can say."""
    try:
        return int(root.at(path).stat().st_mtime)
    except OSError:
        return 0


def make_room(root: Root, serving: Serving, progress: Progress) -> bool:
    """Take memory back from background work and neighbours where a model would be refused for the lack of it; whether any
    came. Before the load, so that the engine does not stall in reclaim during it."""
    missing_bytes = max(
        (problem.missing_bytes for problem in serving.problems if isinstance(problem, ModelTooLarge)), default=0
    )
    if not missing_bytes:
        return False
    from bedplate.act.room import reclaim  # the rare case: a boot must not pay for it
    from bedplate.plan.room import YIELDING, plan_room

    held = []
    for group in YIELDING:
        text = root.read_text(f"/sys/fs/cgroup/{group}/memory.current")
        held.append((group, int(text) if text is not None and text.isdigit() else 0))
    asked = plan_room(missing_bytes, held)
    try:
        freed = reclaim(root, asked)
    except OSError as error:
        progress.note(f"reclaim: {error}")
        return False
    if asked:
        groups = " and ".join(request.group for request in asked)
        progress.note(f"reclaimed {render_size(freed)} of {groups}: {render_size(missing_bytes)} were missing")
    return freed > 0


def read_models(root: Root, problems: list[BedplateError]) -> list[ModelRef]:
    """Models of all indexes that are there; what is wrong with one goes to problems and leaves the others."""
    models: dict[str, ModelRef] = {}
    for directory in MODEL_DIRECTORIES:
        where = f"{directory}/index.json"
        try:
            rows = _read_rows(root, directory, where, problems)
        except ReadError as error:
            error.hint = error.hint or "Make the models disk again."
            problems.append(error)
            continue
        for model in rows:
            path = f"{directory}/{model.path}"
            if not root.exists(path):
                problems.append(
                    ReadError(f"{where}: {model.name}: {model.path} does not exist", hint="Add the model again.")
                )
            elif model.name not in models:
                models[model.name] = replace(model, path=path)
    return list(models.values())


def _read_rows(root: Root, directory: str, where: str, problems: list[BedplateError]) -> tuple[ModelRef, ...]:
    """The models of a disk by its index, those of a store by its records: there, the index may be damaged or missing."""
    from bedplate.weights.index import parse_index

    if root.exists(f"{directory}/names"):
        from bedplate.weights.store import Store

        store = Store(root.at(directory))
        return tuple(replace(model, path=str(Path(model.path).relative_to(store.root))) for model in store.models())
    text = root.read_text(where)
    return parse_index(text, where, problems) if text is not None else ()


def choose_engine(
    root: Root, model: ModelRef, *, wanted: str = "", is_signed: Callable[[str], bool] | None = None
) -> tuple[Engine, str]:
    """The preferred engine that reads a model, can serve it and has a layer on this host, and that layer.

    wanted: the only one that may be taken; "" for any. is_signed: as for `find_layer`. Raises ModelRefused that says of each
    engine that was considered why it cannot serve this model.
    """
    refusals: list[ModelRefused] = []
    for engine in engines_for(model, wanted=wanted):
        try:
            engine.check_model(model, (), ())
            return engine, find_layer(root, engine, is_signed=is_signed)
        except ModelRefused as error:
            refusals.append(error)
    if len(refusals) == 1:
        raise refusals[0]
    reasons = dict.fromkeys(error.message.removeprefix(f"{model.name}: ") for error in refusals)
    raise ModelRefused(
        f"{model.name}: no engine of this host can serve {model.format.value}: {'; '.join(reasons)}", hint=refusals[0].hint
    )


def find_layer(root: Root, engine: Engine, *, is_signed: Callable[[str], bool] | None = None) -> str:
    """A disk with the serial bp-ENGINE, else the newest file. Raises ModelRefused when there is neither.

    A serial is anybody's. Of several the first is taken that is_signed says the owner signed; a single one is taken unasked,
    since its unit mounts nothing that is not signed. None: nobody can say, and the first is taken. The serial is read from
    /sys and not from /dev/disk/by-id, which udev fills in later.
    """
    serial = f"bp-{engine.name}"
    disks = [disk for disk in root.listdir("/sys/block") if root.read_text(f"/sys/block/{disk}/serial") == serial]
    files = sort_layers(engine.name, root.listdir(LAYER_DIRECTORY))
    found = [*(f"/dev/{disk}" for disk in disks), *(f"{LAYER_DIRECTORY}/{file}" for file in files)]
    if not found:
        raise ModelRefused(
            f"{engine.name}: found no layer: no disk has the serial {serial},"
            f" and no {engine.name}_VERSION.raw is in {LAYER_DIRECTORY}",
            hint="Attach the layer as a disk, or copy it there.",
        )
    if len(found) == 1 or is_signed is None:
        return found[0]
    for path in found:
        if is_signed(path):
            return path
    raise ModelRefused(
        f"{engine.name}: none of its layers is complete and signed by the owner: {', '.join(found)}",
        hint="Attach the layer that was built with this image's keys.",
    )
