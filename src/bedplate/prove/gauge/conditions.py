"""What a proof is valid for: kernel, driver of the accelerators, engine, machine. When one of them changes, it expires."""

from __future__ import annotations

import http.client
import json

from bedplate.engines.client import Endpoint, fetch
from bedplate.engines.served import ServedModel, parse_served
from bedplate.host.kernel.cpuinfo import read_cpuinfo
from bedplate.host.kernel.kernel import GPU_MODULES
from bedplate.host.kernel.memory import read_memory
from bedplate.host.root.cpu_lists import parse_cpu_list
from bedplate.host.root.root import Root
from bedplate.model.proof import Conditions

_LIMIT = 65536
_TIMEOUT_S = 5.0


def read_conditions(root: Root, engine: str) -> Conditions:
    """Of this machine now; `engine` is what the victim says of itself."""
    drivers = [
        f"{name} {root.read(f'/sys/module/{name}/version').value or ''}".strip()
        for name in GPU_MODULES
        if root.exists(f"/sys/module/{name}")
    ]
    model = read_cpuinfo(root).model_name.value or "unknown CPU"
    cpus = parse_cpu_list(root.read("/sys/devices/system/cpu/online").value or "0")
    gib = read_memory(root).total_bytes / (1 << 30)
    return Conditions(
        kernel=root.read("/proc/sys/kernel/osrelease").value or "",
        driver=", ".join(drivers),
        engine=engine,
        machine=f"{model}, {len(cpus)} CPUs, {gib:.0f} GiB",
    )


def ask_engine(endpoint: Endpoint) -> str:
    """What an engine says of itself: "vllm 0.11.0, model Qwen" or the name of its model; "" when it tells nothing."""
    version = _ask(endpoint, "/version").get("version") or _ask(endpoint, "/props").get("build_info") or ""
    first = _ask_first_model(endpoint)
    owner = (first.owner or "engine")[:64] if first is not None else "engine"
    name = endpoint.model or (first.id if first is not None else "?")
    return f"{owner} {version}, model {name}".replace(" ,", ",")[:300]


def _ask_first_model(endpoint: Endpoint) -> ServedModel | None:
    try:
        return next(iter(parse_served(_fetch(endpoint, "/v1/models"))), None)
    except ValueError:
        return None


def _ask(endpoint: Endpoint, path: str) -> dict[str, object]:
    try:
        record = json.loads(_fetch(endpoint, path))
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def _fetch(endpoint: Endpoint, path: str) -> bytes:
    """The body of an answer; b"" where there is none, or it is a refusal."""
    try:
        reply = fetch(endpoint, path, timeout_s=_TIMEOUT_S, limit_bytes=_LIMIT)
    except (OSError, http.client.HTTPException, ValueError):
        return b""
    return reply.body if reply.status == 200 else b""
