"""Prepare the engines and the front door of this host.

`prepare` looks for models and engine layers, computes how each model is served, writes that to /run/bedplate and starts the
units; it runs once at boot (bedplate-serve.service) and again whenever a model was added. `show` prints the same without
changing anything. A model that cannot be served is reported and left out; the others are served all the same.

examples:
  bedplate serve show                   what would be served here, how, and what not and why
  bedplate serve show --json            the same for programs
  bedplate serve prepare                write it and start it
  bedplate serve prepare --root tree    write it below a directory and start nothing
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from bedplate.act.serving import Served, offer_huge_pages, start_serving, write_serving
from bedplate.engines import Engine, engine_for
from bedplate.errors import BedplateError, ModelRefused, ModelTooLarge, ReadError
from bedplate.front.haproxy import PORT, STATS_SOCKET, Route, body_limit_bytes, make_route, render_haproxy
from bedplate.host.cpus import read_cpus
from bedplate.host.memory import read_memory
from bedplate.host.root import Root
from bedplate.model.launch import Format, Limits, ModelRef, Placement
from bedplate.model.units import render_size
from bedplate.plan.limits import memory_ceiling_bytes, plan_limits
from bedplate.plan.place import newest_layer, plan_placement

HELP = "prepare the engines and the front door of this host"

# In this order: a disk that was attached, then what was added to this host. The first of two models of one name is served.
MODEL_DIRECTORIES = ("/run/bedplate/models", "/var/lib/bedplate/models")
LAYER_DIRECTORY = "/var/lib/bedplate/engines"
INDEX_SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One model as it will be served."""

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
    front: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=("prepare", "show"))
    parser.add_argument("--root", type=Path, default=Path("/"), help="read and write below this directory; starts nothing")
    parser.add_argument("--port", type=int, default=PORT, help="where the front listens (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print for programs")


def main(arguments: argparse.Namespace) -> int:
    root = Root(arguments.root)
    here = arguments.root == Path("/")
    affinity = os.sched_getaffinity(0) if here else None
    serving = find_serving(root, port=arguments.port, affinity=affinity)
    if arguments.what == "prepare":
        if here and make_room(root, serving):
            serving = find_serving(root, port=arguments.port, affinity=affinity)
        written = write_serving(root, [service.served for service in serving.services], serving.front)
        if here:
            try:
                offer_huge_pages(root)
            except (BedplateError, OSError) as error:  # slower, not broken: the engines start all the same
                print(f"huge pages: {error}", file=sys.stderr)
            start_serving(written, front_runs=root.exists(STATS_SOCKET))
    if arguments.json:
        _print_json(serving)
    else:
        _print_text(serving)
    return 1 if serving.problems else 0


def find_serving(root: Root, *, port: int, affinity: set[int] | None) -> Serving:
    """Read the host and decide what is served; changes nothing."""
    problems: list[BedplateError] = []
    models = read_models(root, problems)
    placement = plan_placement(read_cpus(root, affinity=affinity, cgroup="inference.slice"))
    memory = read_memory(root)
    services: list[Service] = []
    promised_bytes = 0
    for model in models:
        try:
            engine = engine_for(model)
            layer = find_layer(root, engine)
            limits = plan_limits(model, placement, memory, promised_bytes=promised_bytes)
            launch = engine.make_launch(model, placement, limits)
        except ModelRefused as error:
            problems.append(error)
            continue
        promised_bytes += limits.memory_bytes
        served = Served(
            model=model.name,
            launch=launch,
            layer=layer,
            model_file=model.path,
            memory_ceiling_bytes=memory_ceiling_bytes(limits, memory),
        )
        route = make_route(model, launch, limits)
        services.append(Service(model=model, engine=engine.name, limits=limits, served=served, route=route))
    bind = [f"*:{port}"]
    if root.exists("/proc/net/if_inet6"):
        bind.append(f"[::]:{port} v6only")
    front = render_haproxy(
        [service.route for service in services],
        body_limit=body_limit_bytes([service.limits.context for service in services]),
        bind=bind,
    )
    return Serving(placement=placement, services=tuple(services), problems=tuple(problems), front=front)


def make_room(root: Root, serving: Serving) -> bool:
    """Take memory back from background work and neighbours where a model would be refused for the lack of it; whether any
    came. Before the load, so that the engine does not stall in reclaim during it."""
    missing_bytes = max((one.missing_bytes for one in serving.problems if isinstance(one, ModelTooLarge)), default=0)
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
        print(f"reclaim: {error}", file=sys.stderr)
        return False
    if asked:
        groups = " and ".join(one.group for one in asked)
        print(f"reclaimed {render_size(freed)} of {groups}: {render_size(missing_bytes)} were missing", file=sys.stderr)
    return freed > 0


def read_models(root: Root, problems: list[BedplateError]) -> list[ModelRef]:
    """Models of all indexes that are there; what is wrong with one goes to problems and leaves the others."""
    import json

    models: dict[str, ModelRef] = {}
    for directory in MODEL_DIRECTORIES:
        where = f"{directory}/index.json"
        text = root.read_text(where)
        if text is None:
            continue
        try:
            index = json.loads(text)
            if index["schema"] != INDEX_SCHEMA:
                raise ReadError(f"{where}: schema: expected {INDEX_SCHEMA}, got {index['schema']!r}")
            rows = [ModelRef(**{**row, "format": Format(row["format"])}) for row in index["models"]]
        except ReadError as error:
            problems.append(error)
            continue
        except (ValueError, TypeError, KeyError) as error:
            problems.append(ReadError(f"{where}: is no index of models: {error}", hint="Make the models disk again."))
            continue
        for model in rows:
            path = f"{directory}/{model.path}"
            if ".." in Path(model.path).parts or not root.exists(path):
                problems.append(ReadError(f"{where}: {model.name}: {model.path} is not there", hint="Add the model again."))
            elif model.name not in models:
                models[model.name] = _at(model, path)
    return list(models.values())


def find_layer(root: Root, engine: Engine) -> str:
    """The disk with the serial bp-ENGINE, else the newest file; raises ModelRefused when there is neither.

    The serial is read from /sys and not from /dev/disk/by-id, which udev fills in later.
    """
    for disk in root.listdir("/sys/block"):
        if root.read_text(f"/sys/block/{disk}/serial") == f"bp-{engine.name}":
            return f"/dev/{disk}"
    newest = newest_layer(engine.name, root.listdir(LAYER_DIRECTORY))
    if newest is None:
        raise ModelRefused(
            f"{engine.name}: its layer is not here: no disk has the serial bp-{engine.name},"
            f" and no {engine.name}_VERSION.raw is in {LAYER_DIRECTORY}",
            hint="Attach the layer as a disk, or copy it there.",
        )
    return f"{LAYER_DIRECTORY}/{newest}"


def _at(model: ModelRef, path: str) -> ModelRef:
    from dataclasses import replace

    return replace(model, path=path)


def _print_text(serving: Serving) -> None:
    print(f"CPUs: {len(serving.placement.cpus)} ({serving.placement.because})")
    for service in serving.services:
        limits = service.limits
        print(
            f"{service.model.name}: {service.engine}, {limits.parallel} requests of {limits.context} tokens,"
            f" {render_size(limits.memory_bytes)}, layer {service.served.layer}"
        )
    for problem in serving.problems:
        print(f"error: {problem.message}", file=sys.stderr)
        if problem.hint:
            print(f"hint: {problem.hint}", file=sys.stderr)


def _print_json(serving: Serving) -> None:
    import json

    shown = {
        "cpus": list(serving.placement.cpus),
        "because": serving.placement.because,
        "models": [
            {
                "name": service.model.name,
                "engine": service.engine,
                "layer": service.served.layer,
                "file": service.served.model_file,
                "context": service.limits.context,
                "parallel": service.limits.parallel,
                "memory_bytes": service.limits.memory_bytes,
                "argv": list(service.served.launch.argv),
            }
            for service in serving.services
        ],
        "problems": [{"message": problem.message, "hint": problem.hint} for problem in serving.problems],
    }
    print(json.dumps(shown, indent=2))
