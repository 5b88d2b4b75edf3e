"""vLLM's `vllm serve` on CPUs: (model, placement, limits) -> Launch. Pure.

Source of the options and variables: vllm/engine/arg_utils.py, vllm/envs.py and vllm/v1/worker/cpu_worker.py of 0.32.0, and
what was run with them. The layer has no compiler and no Triton: the model runs as it is written (--enforce-eager).
"""

from __future__ import annotations

from collections.abc import Collection

from bedplate.engines.llamacpp import batch_tokens, engine_threads
from bedplate.engines.python_site import ENVIRONMENT, PROGRAM, check_safetensors, make_openai_probe
from bedplate.model.instance import ENGINE_SETTINGS, model_file_of, socket_of
from bedplate.model.launch import EngineFootprint, Launch, Limits, ModelRef, Placement
from bedplate.model.units import MIB

# PSS of its four processes together with a cache of 32 MiB and a model of 5 MB: 1655 MiB (0.32.0, torch 2.13.0+cpu).
# Blocks of 128 tokens are its default on CPUs.
FOOTPRINT = EngineFootprint(process_bytes=1700 * MIB, block_tokens=128)
_PROBES = 1  # sequences beside those of the front
_THREADS_OF_BOTH = 2  # CPUs up to which the computing threads get all of them


def make_launch(model: ModelRef, placement: Placement, limits: Limits) -> Launch:
    """How vLLM is started for one model: a KV cache of exactly the planned size, and a Unix socket.

    It decodes one sequence more than the front sends requests, so that the probe never waits for a place. It reads a prompt
    in pieces as large as llama.cpp's batch; between two of them everybody else gets a token, and the heartbeat its answer.
    """
    threads = compute_threads(placement)
    batch = max(batch_tokens(model, threads), limits.parallel + _PROBES)
    argv = (
        PROGRAM,
        *("-m", "vllm.entrypoints.cli.main", "serve"),
        model_file_of(model.name),
        *("--served-model-name", model.name),
        *("--uds", socket_of(model.name)),
        "--enforce-eager",
        *("--max-model-len", str(limits.context)),
        *("--max-num-seqs", str(limits.parallel + _PROBES)),
        *("--max-num-batched-tokens", str(batch)),
        # Its own default is a share of all memory, and it does not start where that is not free at the moment.
        *("--kv-cache-memory-bytes", str(limits.kv_bytes)),
        *("--middleware", "bedplate_vllm.Heartbeat"),
        "--disable-uvicorn-access-log",
        "--disable-fastapi-docs",
    )
    return Launch(
        argv=argv,
        env=(
            *ENVIRONMENT,
            # The threads float, as llama.cpp's do: bound to a CPU that somebody else uses, one would hold up all others.
            ("VLLM_CPU_OMP_THREADS_BIND", "nobind"),
            ("OMP_NUM_THREADS", str(threads)),
            # --enforce-eager does not reach the sampler: a request for log probabilities made it call a C++ compiler in the
            # middle of a step. The layer has none, and where there was one nobody got a token for minutes.
            ("TORCH_COMPILE_DISABLE", "1"),
            ("VLLM_NO_USAGE_STATS", "1"),
            ("VLLM_CACHE_ROOT", "/tmp/vllm"),
            ("VLLM_LOGGING_LEVEL", "WARNING"),
        ),
        probe=make_openai_probe(model, threads, batch),
        memory_bytes=limits.memory_bytes,
        socket=socket_of(model.name),
        drop_in=f"{ENGINE_SETTINGS}/vllm.conf",
    )


def compute_threads(placement: Placement) -> int:
    """Threads that compute: with three CPUs or more, one is left to the server and the scheduler, as vLLM itself does."""
    threads = engine_threads(placement)
    return threads - 1 if threads > _THREADS_OF_BOTH else threads


def check_model(model: ModelRef, architectures: Collection[str], tensor_types: Collection[str]) -> None:
    """Raise ModelRefused for a model that vLLM cannot serve; arguments as of llamacpp.check_model."""
    check_safetensors("vLLM", model, architectures)
