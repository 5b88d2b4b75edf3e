"""Transformers' `transformers serve`: (model, placement, limits) -> Launch. Pure.

It runs each architecture that the library has, one request after the other, without a compiler. bedplate_transformers.py in
the image's engine.d starts it: the server itself knows no Unix socket, no bound on a prompt and no sign of progress. Source:
transformers/cli/serve.py and transformers/cli/serving/ of 5.24.
"""

from __future__ import annotations

from collections.abc import Collection

from bedplate.engines.llamacpp import PROBE_FLOOR_S, batch_s, engine_threads
from bedplate.engines.python_site import ENVIRONMENT, PROGRAM, check_safetensors, make_openai_probe
from bedplate.model.instance import BATCH_TOKENS, ENGINE_SETTINGS, SHOWN_SETTINGS, model_file_of, socket_of
from bedplate.model.launch import EngineFootprint, Launch, Limits, ModelRef, Placement
from bedplate.model.units import MIB

# PSS of its one process with a model of 5 MB: 428 MiB (5.24.0, torch 2.13.0+cpu).
FOOTPRINT = EngineFootprint(process_bytes=448 * MIB, block_tokens=1, most_parallel=1)


def make_launch(model: ModelRef, placement: Placement, limits: Limits) -> Launch:
    """How transformers serve is started for one model.

    The heartbeat is answered beside the thread that computes, at once, and says whether that thread is stuck. It reads a
    prompt in one piece, so one pass may be over a whole context: it is stuck after the time of that.
    """
    threads = engine_threads(placement)
    stuck_s = PROBE_FLOOR_S + batch_s(model, threads, limits.context)
    argv = (
        PROGRAM,
        f"{SHOWN_SETTINGS}/bedplate_transformers.py",
        model_file_of(model.name),
        *("--name", model.name),
        *("--socket", socket_of(model.name)),
        *("--context", str(limits.context)),
        *("--stuck-s", f"{stuck_s:.0f}"),
        *("--model-threads", str(threads)),
    )
    return Launch(
        argv=argv,
        env=(*ENVIRONMENT, ("OMP_NUM_THREADS", str(threads))),
        probe=make_openai_probe(model, threads, BATCH_TOKENS),
        memory_bytes=limits.memory_bytes,
        socket=socket_of(model.name),
        drop_in=f"{ENGINE_SETTINGS}/transformers.conf",
    )


def check_model(model: ModelRef, architectures: Collection[str], tensor_types: Collection[str]) -> None:
    """Raise ModelRefused for a model that Transformers cannot serve; arguments as of llamacpp.check_model."""
    check_safetensors("Transformers", model, architectures)
