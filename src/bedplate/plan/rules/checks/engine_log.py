"""What an engine's own log, or its command line, says of how it runs: the slower paths that no health check sees.

A row for each kind of note; the lines that have one are in host/formats/engine_log.py. Many are traps that others have
collected: the rows of catalog/findings.toml name theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bedplate.model.facts.finding import Confidence, Evidence, Severity
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.system import EngineNoteKind
from bedplate.plan.engine_arguments import argument
from bedplate.plan.rules.observation import NOTHING_TO_UNDO, Observation
from bedplate.plan.rules.rule import Result
from bedplate.plan.rules.terms import Deployment, deployments

_BEFORE = ("# Start it with its previous options.",)
_KIND = EngineNoteKind


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteRow:
    """What a note of an engine means for a machine."""

    id: str
    severity: Severity
    because: str
    """{engine} stands for the engine."""
    fix: tuple[str, ...]
    undo: tuple[str, ...] = NOTHING_TO_UNDO
    confidence: Confidence = Confidence.CERTAIN


ROWS: dict[EngineNoteKind, NoteRow] = {
    _KIND.NO_DEVICE: NoteRow(
        id="engine.no-device",
        severity=Severity.CRITICAL,
        because="{engine} found no accelerator: it runs on the CPU, or not at all",
        fix=(
            "nvidia-smi || rocm-smi",
            "# The build must support the accelerator; a container needs its devices: --gpus all (NVIDIA), or",
            "# --device /dev/kfd --device /dev/dri (AMD).",
        ),
        confidence=Confidence.LIKELY,
    ),
    _KIND.PARTLY_OFFLOADED: NoteRow(
        id="engine.partly-offloaded",
        severity=Severity.MEDIUM,
        because="{engine} keeps some layers on the CPU: each token waits for them",
        fix=(
            "# If the model fits into the GPU: --gpu-layers 999. If not, a smaller quantisation or context.",
            "bedplate fit MODEL",
        ),
        undo=_BEFORE,
    ),
    _KIND.KV_CACHE_SMALL: NoteRow(
        id="engine.kv-small",
        severity=Severity.MEDIUM,
        because="the KV cache of {engine} holds less than one request of the longest length",
        fix=("# Lower --max-model-len, raise --gpu-memory-utilization, or spread the model over more GPUs.",),
        undo=_BEFORE,
    ),
    _KIND.EAGER: NoteRow(
        id="engine.eager",
        severity=Severity.LOW,
        because="{engine} runs without CUDA graphs: each step is launched kernel by kernel",
        fix=("# Take --enforce-eager out, unless a fault needs it.",),
        undo=("# Start it with --enforce-eager.",),
        confidence=Confidence.LIKELY,
    ),
    _KIND.NO_CUSTOM_ALLREDUCE: NoteRow(
        id="engine.no-custom-allreduce",
        severity=Severity.INFO,
        because="{engine} uses NCCL instead of its own all-reduce",
        fix=("# The line names the reason. On GPUs without peer-to-peer it is right.",),
    ),
    _KIND.MEMORY_TAKEN: NoteRow(
        id="engine.memory-taken",
        severity=Severity.HIGH,
        because="{engine} did not start: another process holds the memory of its accelerator",
        fix=(
            "# Find the process. An engine that was killed may have left a worker behind (VLLM::EngineCore); a container",
            "# that has ended frees the memory some seconds later.",
            "nvidia-smi --query-compute-apps=pid,used_memory,name --format=csv",
            "# Where memory is shared with the host (Grace, GB10), files in the page cache count, too.",
        ),
    ),
    _KIND.MEMORY_HELD: NoteRow(
        id="engine.memory-held",
        severity=Severity.LOW,
        because="{engine} waited in vain for a model that it had unloaded to free the accelerator's memory",
        fix=(
            "# The next model may get fewer layers on the accelerator (look for: offloaded N/M layers to GPU). Who has it:",
            "nvidia-smi --query-compute-apps=pid,used_memory,name --format=csv",
        ),
        confidence=Confidence.LIKELY,
    ),
    _KIND.WEIGHT_ONLY: NoteRow(
        id="engine.weight-only",
        severity=Severity.MEDIUM,
        because="{engine} unpacks the weights to a larger format: the accelerator, or the build, does not compute in theirs",
        fix=(
            "# FP8 needs compute capability 8.9, FP4 needs 10.0. With those, the build has no kernels for the GPU:",
            "nvidia-smi --query-gpu=name,compute_cap --format=csv",
            "# Take weights in a format that this GPU computes in, or expect the speed of weight-only quantisation.",
        ),
        undo=("# Serve the previous weights.",),
    ),
    _KIND.NO_PREFIX_CACHE: NoteRow(
        id="engine.no-prefix-cache",
        severity=Severity.LOW,
        because="{engine} does not cache prefixes for this model: each turn reads the whole conversation again",
        fix=("# A newer release may support it for hybrid models. Plan for full prompts until then.",),
    ),
    _KIND.PROMPT_AGAIN: NoteRow(
        id="engine.prompt-again",
        severity=Severity.MEDIUM,
        because="{engine} read a whole prompt again, though it had the beginning: TTFT grows with each turn",
        fix=(
            "# Models with a sliding window: --swa-full keeps what is needed, for more memory. Hybrid and recurrent models",
            "# need checkpoints (--ctx-checkpoints), and clients that do not change the beginning of the prompt.",
        ),
        undo=_BEFORE,
    ),
    _KIND.KV_CACHE_FULL: NoteRow(
        id="engine.kv-full",
        severity=Severity.MEDIUM,
        because="the KV cache of {engine} was full: requests were taken back and computed again",
        fix=(
            "# Now and then it costs little. Often: raise --schedule-conservativeness or --mem-fraction-static, lower",
            "# --max-running-requests, or shorten the context.",
        ),
        undo=_BEFORE,
    ),
    _KIND.CONTEXT_OVER: NoteRow(
        id="engine.context-over",
        severity=Severity.LOW,
        because="the context of {engine} is longer than its model was trained for: long prompts are cut or answered worse",
        fix=("# Start it with a --ctx-size of n_ctx_train at most, and give clients the same limit.",),
        undo=_BEFORE,
    ),
    _KIND.NO_FLASH_ATTENTION: NoteRow(
        id="engine.no-flash-attention",
        severity=Severity.MEDIUM,
        because="{engine} computes the attention of a layer on another device, so it has switched flash attention off",
        fix=(
            "# All layers must be on the accelerator (--gpu-layers 999), and the build needs kernels for the model's heads",
            "# and for the types of its cache (GGML_CUDA_FA_ALL_QUANTS: all pairs of --cache-type-k and --cache-type-v).",
        ),
        undo=_BEFORE,
    ),
    _KIND.NOT_LOCKED: NoteRow(
        id="engine.not-locked",
        severity=Severity.MEDIUM,
        because="{engine} could not lock its weights in memory: the kernel may drop or swap them under pressure",
        fix=(
            "# Raise the limit (LimitMEMLOCK=infinity for a service, --ulimit memlock=-1 for a container), and restart it.",
            "# If the memory is too small for the weights, take smaller ones.",
        ),
        undo=("# The previous limit.",),
    ),
    _KIND.OFFLOADED: NoteRow(
        id="engine.weights-on-host",
        severity=Severity.HIGH,
        because="{engine} keeps weights in the host's memory or on its disk: each step copies them over PCI Express",
        fix=(
            "# The model does not fit into what its devices have free. Take more devices, or a smaller quantisation:",
            "bedplate fit MODEL",
        ),
        undo=_BEFORE,
    ),
    _KIND.COLLECTIVE_TIMEOUT: NoteRow(
        id="engine.collective-timeout",
        severity=Severity.HIGH,
        because="a collective operation of {engine} did not end: one rank is gone, stuck, or in another operation",
        fix=(
            "# Restart all ranks: they cannot go on. The cause stands before these lines, or in the kernel's log:",
            "dmesg | grep -E 'Xid|NVRM|mlx5|AER|Out of memory'",
        ),
    ),
    _KIND.NO_ASYNC_SCHEDULING: NoteRow(
        id="engine.no-async-scheduling",
        severity=Severity.INFO,
        because="{engine} plans each step only when the last one has ended, because of the way it speculates",
        fix=("# Compare with and without speculation at the real number of requests: it may gain nothing.",),
    ),
    _KIND.TOOLCHAIN: NoteRow(
        id="engine.newer-toolchain",
        severity=Severity.CRITICAL,
        because="the engine's code was compiled by a newer CUDA than the driver knows (error 222): kernels do not start",
        fix=(
            "# The CUDA of the image must not be newer than that of the driver, which nvidia-smi shows:",
            "nvidia-smi | grep 'CUDA Version'",
            "# Take an image of an older CUDA, the package cuda-compat on a data centre GPU, or a newer driver.",
        ),
        undo=("# The previous image.",),
    ),
}
"""What each kind of note means."""


def check_engine_notes(facts: HostFacts) -> Iterator[Result]:
    """What an engine's own log says of how it runs: once for each kind and engine, with the line that came last.

    That an engine of this machine found no accelerator is no fault where the machine has none.
    """
    for (kind, engine), note in {(note.kind, note.engine): note for note in facts.engine_notes}.items():
        if kind is EngineNoteKind.NO_DEVICE and note.source and not facts.accelerators:
            continue
        yield _observe(ROWS[kind], engine, ("machine",), Evidence(fact=note.text, source=note.source or f"log of {engine}"))


def check_engine_options(facts: HostFacts) -> Iterator[Result]:
    """Options of engines that run which put them on a slower path: the log says the same, where somebody kept it."""
    for group in deployments(facts):
        for kind, said in _slower_options(group):
            source = f"/proc/{group.processes[0].pid}/cmdline"
            yield _observe(ROWS[kind], group.name, group.where, Evidence(fact=said, source=source))


def _slower_options(group: Deployment) -> Iterator[tuple[EngineNoteKind, str]]:
    words = {word for process in group.processes for word in process.argv}
    for flag in ("--enforce-eager", "--disable-cuda-graph"):
        if flag in words:
            yield EngineNoteKind.EAGER, flag
            break
    for name in ("--cpu-offload-gb",):
        sizes = [value for process in group.processes if (value := argument(process, name)) is not None]
        if any(size.strip("0.") for size in sizes):
            yield EngineNoteKind.OFFLOADED, f"{name} {sizes[0]}"


def _observe(row: NoteRow, engine: str, where: tuple[str, ...], evidence: Evidence) -> Observation:
    return Observation(
        id=row.id,
        severity=row.severity,
        because=row.because.format(engine=engine),
        where=where,
        evidence=(evidence,),
        fix=row.fix,
        undo=row.undo,
        confidence=row.confidence,
    )
