"""llama.cpp's llama-server: (model, placement, limits) -> Launch. Pure.

Source of the options: `llama-server --help` of 0.7.0 (build 11669, Debian sid), and what was measured with it:
threads beyond the CPUs that are really there cost most of the speed (both spin at barriers), so they are always given.
"""

from __future__ import annotations

from collections.abc import Collection

from bedplate.errors import ModelRefused
from bedplate.model.instance import BATCH_TOKENS, FRONTS_AT_ONCE, PROBE_TOKENS, model_file_of, socket_of
from bedplate.model.launch import Launch, Limits, ModelRef, ModelTask, Placement, Probe

PROGRAM = "llama-server"

PROBE_FLOOR_S = 10.0
"""Seconds of a deadline beside the time that a batch takes."""
_SMALLEST_BATCH = 32  # tokens
_LONGEST_BATCH_S = 30.0
_IMAGE_S = 60.0  # a projector encodes an image in one piece; a minute is for a large one on two CPUs
# Floating point operations a second and CPU on a prompt: 3.5 to 5.3e9 were measured with 16-bit weights on two AVX2 CPUs
# that others used as well (load 4, three runs). It is for deadlines only and may err low.
_FLOPS_PER_CPU = 5e9


_POOLED_BATCH = 2048  # tokens of a text that becomes one vector or score at once; longer texts are refused by the engine


def make_launch(model: ModelRef, placement: Placement, limits: Limits) -> Launch:
    """How llama-server is started for one model.

    It gets as many slots as the front sends requests at once, and a KV pool (`--kv-unified`) in which each slot may have its
    whole context. A request for several prompts or choices takes several slots, and waits for them. With a slot more than
    the pool has contexts, such a request made everybody else's fail ("Context size has been exceeded").
    """
    threads = engine_threads(placement)
    batch = batch_tokens(model, threads)
    pooled = model.task is not ModelTask.GENERATE
    if pooled:  # a text is pooled from one batch, so it must fit into one
        slots = limits.parallel
        batch = max(batch, min(limits.context, _POOLED_BATCH))
        # 0.7.0 plans its graph for as many tokens as divide among the slots, and ends with an assertion where others come.
        batch = -(-batch // slots) * slots
    argv = (
        PROGRAM,
        *("--model", _inside(model, model.main)),
        *(("--mmproj", _inside(model, model.projector), "--no-mmproj-offload") if model.projector else ()),
        *(word for adapter in model.adapters for word in ("--lora", _inside(model, adapter))),
        *("--alias", model.name),
        *("--host", socket_of(model.name)),
        *("--threads", str(threads)),
        *("--threads-batch", str(threads)),
        # A connection keeps one of these; each request, the probe and one spare. After a reload the front's former processes
        # finish their requests beside the new one: without a thread for the heartbeat the engine would be taken for stuck.
        *("--threads-http", str(FRONTS_AT_ONCE * limits.parallel + 3)),
        *("--parallel", str(limits.parallel)),
        *("--ctx-size", str(pool_tokens(limits))),
        *("--kv-unified-per-slot", str(limits.context)),
        "--kv-unified",
        *("--batch-size", str(batch)),
        *("--ubatch-size", str(batch)),
        *(_TASK_OPTIONS[model.task]),
        "--no-cache-idle-slots",
        *("--cache-ram", "0"),  # its own default is 8 GiB that nothing accounts for
        *("--fit", "off"),  # the limits were computed; its own search loads the model once more
        # Its kernels for AMX take no batch of matrices, and 0.7.0 ends with an assertion (cur_backend_id) when it meets one.
        *(("--no-repack",) if placement.amx and model.architecture in _BATCHED_WEIGHTS else ()),
        "--no-warmup",  # the probe warms up, and proves a token
        "--offline",
        "--no-webui",
        "--no-slots",
        "--metrics",
        *("--log-verbosity", "2"),  # warnings; 3 writes nine lines for each probe
    )
    return Launch(
        argv=argv,
        # malloc asks for huge pages with madvise for this process alone: +13 % where THP stands at madvise or always.
        env=(("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"), ("LANG", "C.UTF-8")),
        probe=make_probe(model, threads, batch),
        memory_bytes=limits.memory_bytes,
        socket=socket_of(model.name),
    )


_BATCHED_WEIGHTS = frozenset({"deepseek2", "deepseek32", "glm-dsa", "kimi-linear", "mistral4"})
"""Architectures of latent attention, whose attn_k_b and attn_v_b are one matrix for each head. Only deepseek2 was tried."""
_TASK_OPTIONS = {ModelTask.GENERATE: (), ModelTask.EMBED: ("--embeddings",), ModelTask.RERANK: ("--reranking",)}
_NEVER_LOADED = frozenset({"Q8_K"})  # of sums while it computes: 0.7.0 ends with a segmentation fault on a file of it


def check_model(model: ModelRef, architectures: Collection[str], tensor_types: Collection[str]) -> None:
    """Raise ModelRefused for a model that this build of llama-server cannot serve.

    architectures: the build's own list (image/engine_features.py), or () where it is not known. tensor_types: of the file.
    """
    if architectures and model.architecture not in architectures:
        raise ModelRefused(
            f"{model.name}: the engine does not know the architecture {model.architecture!r}",
            hint="A newer engine may: bedplate image build --update. Or choose another model.",
        )
    if unloadable := sorted(_NEVER_LOADED & set(tensor_types)):
        raise ModelRefused(
            f"{model.name}: has tensors of type {', '.join(unloadable)}, which the engine computes with and cannot load",
            hint="Get the model in another quantisation.",
        )


def _inside(model: ModelRef, file: str) -> str:
    """Path at which the engine sees a file of the model's directory; "" for a model that is one file."""
    return f"{model_file_of(model.name)}/{file}" if file else model_file_of(model.name)


def batch_tokens(model: ModelRef, threads: int) -> int:
    """Tokens of a prompt that are worked on at once: the most of 512, 256, ... 32 that take no more than half a minute.

    Nobody else gets a token meanwhile, nor does the probe.
    """
    tokens = BATCH_TOKENS
    while tokens > _SMALLEST_BATCH and batch_s(model, threads, tokens) > _LONGEST_BATCH_S:
        tokens //= 2
    return tokens


def make_probe(model: ModelRef, threads: int, batch: int) -> Probe:
    """A request for one token, vector or score, and the heartbeat; the deadline leaves room for one batch of a prompt, and
    for one image where the model sees."""
    path, body, expect = {
        # Without cache_prompt=false the engine warns twice, each time, that it has this prompt already.
        ModelTask.GENERATE: (
            "/v1/completions",
            '"prompt":"a","max_tokens":1,"temperature":0,"cache_prompt":false',
            '"completion_tokens":1',
        ),
        ModelTask.EMBED: ("/v1/embeddings", '"input":"a"', '"embedding"'),
        ModelTask.RERANK: ("/v1/rerank", '"query":"a","documents":["a"]', '"relevance_score"'),
    }[model.task]
    return Probe(
        path=path,
        body=f'{{"model":"{model.name}",{body}}}',
        expect=expect,
        # A task of the queue, which is emptied before each batch (server_queue::start_loop). /metrics and /health of this
        # version are answered by a thread beside it, whatever becomes of the batch.
        heartbeat="/lora-adapters",
        deadline_s=PROBE_FLOOR_S + batch_s(model, threads, batch) + (_IMAGE_S if model.projector else 0.0),
    )


def batch_s(model: ModelRef, threads: int, tokens: int) -> float:
    """Seconds that so many tokens of a prompt take on so many CPUs; an estimate for deadlines, which may err high."""
    return 2.0 * model.parameters * tokens / (_FLOPS_PER_CPU * threads)


def engine_threads(placement: Placement) -> int:
    """Threads for a placement: its CPUs, and no more than its quota pays for; at least 1.

    A quota of 1.5 gives one thread: two would be stopped by the quota in the middle of a barrier.
    """
    threads = len(placement.cpus)
    if placement.cpu_quota is not None:
        threads = min(threads, int(placement.cpu_quota))
    return max(1, threads)


def pool_tokens(limits: Limits) -> int:
    """Tokens in the KV pool that all requests share."""
    return limits.context * limits.parallel + PROBE_TOKENS
