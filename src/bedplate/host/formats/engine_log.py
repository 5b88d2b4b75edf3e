"""Logs of engines: what they say of devices that they found, of the KV cache, of memory, of slower paths.

Only sentences that say how the engine runs are kept. Sources: vllm/platforms, vllm/v1/core/kv_cache_utils.py and
vllm/distributed/device_communicators of vLLM; src/llama-model.cpp, common/arg.cpp and ggml/src/ggml-cuda of llama.cpp;
discover/gpu.go and server/sched.go of Ollama; managers/scheduler.py of SGLang; ProcessGroupNCCL.cpp of PyTorch.
"""

from __future__ import annotations

import re
from dataclasses import replace

from bedplate.host.accel.blank import make_accelerator
from bedplate.host.formats.section import Section
from bedplate.host.formats.tool_failures import find_cuda_failure
from bedplate.host.formats.unrecorded import empty_facts
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.pci import Accelerator
from bedplate.model.facts.reading import Unknown
from bedplate.model.facts.system import EngineNote, EngineNoteKind, ToolFailure

VLLM, LLAMA = "vllm", "llama.cpp"
OLLAMA, SGLANG, PYTORCH, TRANSFORMERS = "ollama", "sglang", "pytorch", "transformers"
_LEVEL = r"(?:\d{1,4}\.\d\d\.\d{3}\.\d{3} [A-Z] {1,2})?"  # of llama.cpp since 2026: "0.04.960.991 W slot update_slots"
# What journalctl and `docker compose logs` put before a line may stand before each.
_BEFORE = r"(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S{1,80} [\w.@-]{1,80}\[\d{1,10}\]: |[\w.-]{1,60} {1,12}\| )?"
BEGINS = re.compile(
    _BEFORE + r"(?:"
    r"(?:\([A-Za-z0-9_:= ]{2,60}\) {1,2}){0,2}(?:INFO|WARNING|ERROR|DEBUG) \d\d-\d\d \d\d:\d\d:\d\d "
    r"|time=\d{4}-\d\d-\d\dT\S{8,24} level=[A-Z]{4,5} source="
    r"|\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?: [A-Z]{2,3}\d{1,3}){0,3}\] (?:Decode batch|Prefill batch|KV [Cc]ache|Capture cuda)"
    r"|(?:\[rank\d{1,4}\]:)?\[[EW]\d{4} \d\d:\d\d:\d\d\.\d{1,9} ProcessGroupNCCL"
    r"|(?:WARNING:[\w.]{1,40}:)?Some parameters are on the meta device|ValueError: Free memory on device "
    r"|" + _LEVEL + r"(?:ggml_cuda_init|ggml_vulkan|llama_model_loader|load_tensors|llama_context|llama_kv_cache\w{0,20}"
    r"|sched_reserve|print_info|slot update_slots): |warning: (?:no usable GPU found|failed to mlock )"
    r"|build: \d{3,6} \([0-9a-f]{6,12}\)|system_info: n_threads)"
)
CONTINUES = re.compile(
    _BEFORE + _LEVEL + r"(?:  Device \d{1,3}: |warning: |main: |srv {1,8}\w|slot {1,8}\w|llm_load_\w|common_init|init: "
    r"|\.{4,200}$|sched_reserve: )"
)
_OF_OTHERS = re.compile(_BEFORE)
_DEVICE = re.compile(r"  Device (\d{1,3}): (\S.{0,80}?), compute capability", re.ASCII)
_OFFLOADED = re.compile(r"offloaded (\d{1,4})/(\d{1,4}) layers to GPU", re.ASCII)
_CONCURRENCY = re.compile(r"Maximum concurrency for [\d,]{1,12} tokens per request: (\d{1,6}\.\d{1,3})x", re.ASCII)
_WORDS = (
    ("no usable GPU found", EngineNoteKind.NO_DEVICE, LLAMA),
    ("compiled without GPU support", EngineNoteKind.NO_DEVICE, LLAMA),
    ("ggml_cuda_init: failed to initialize CUDA", EngineNoteKind.NO_DEVICE, LLAMA),
    ("no compatible GPUs were discovered", EngineNoteKind.NO_DEVICE, OLLAMA),
    ("No platform detected", EngineNoteKind.NO_DEVICE, VLLM),
    ("Automatically detected platform cpu", EngineNoteKind.NO_DEVICE, VLLM),
    ("Cudagraph is disabled under eager mode", EngineNoteKind.EAGER, VLLM),
    ("CUDA graphs are disabled", EngineNoteKind.EAGER, VLLM),
    ("Enforce eager set, ", EngineNoteKind.EAGER, VLLM),
    ("Custom allreduce is disabled", EngineNoteKind.NO_CUSTOM_ALLREDUCE, VLLM),
    ("on startup is less than desired GPU memory utilization", EngineNoteKind.MEMORY_TAKEN, VLLM),
    ("gpu VRAM usage didn't recover within timeout", EngineNoteKind.MEMORY_HELD, OLLAMA),
    ("does not have native support for FP8 computation", EngineNoteKind.WEIGHT_ONLY, VLLM),
    ("does not have native support for FP4 computation", EngineNoteKind.WEIGHT_ONLY, VLLM),
    ("detected without support for prefix caching: disabling", EngineNoteKind.NO_PREFIX_CACHE, VLLM),
    ("forcing full prompt re-processing due to lack of cache data", EngineNoteKind.PROMPT_AGAIN, LLAMA),
    ("KV cache pool is full. Retract requests", EngineNoteKind.KV_CACHE_FULL, SGLANG),
    ("possible training context overflow", EngineNoteKind.CONTEXT_OVER, LLAMA),
    ("but the Flash Attention tensor is assigned to device", EngineNoteKind.NO_FLASH_ATTENTION, LLAMA),
    ("failed to mlock ", EngineNoteKind.NOT_LOCKED, LLAMA),
    ("Some parameters are on the meta device", EngineNoteKind.OFFLOADED, TRANSFORMERS),
    ("Watchdog caught collective operation timeout", EngineNoteKind.COLLECTIVE_TIMEOUT, PYTORCH),
    ("Async scheduling not supported with", EngineNoteKind.NO_ASYNC_SCHEDULING, VLLM),
    ("the provided PTX was compiled with an unsupported toolchain", EngineNoteKind.TOOLCHAIN, PYTORCH),
)
_NOTES_MOST = 64
_DEVICES_MOST = 64
_SHOWN = 200


def parse_engine_log(section: Section) -> HostFacts:
    """Notes and errors of CUDA in the order of the log, each once, and the devices that llama.cpp lists."""
    notes: dict[EngineNote, None] = {}
    failures: dict[ToolFailure, None] = {}
    gpus: dict[int, Accelerator] = {}
    engine = VLLM if re.search(r"(?:INFO|WARNING|ERROR) \d\d-\d\d ", section.text[:4096]) else LLAMA
    for line in section.text.split("\n"):
        device = _DEVICE.search(line)
        if device is not None and len(gpus) < _DEVICES_MOST:
            gpus.setdefault(int(device[1]), _accelerator(int(device[1]), device[2]))
        failure = find_cuda_failure(_message(line, most=len(line)))
        if failure is not None and len(failures) < _NOTES_MOST:
            failures[failure] = None
        note = _note(line, engine)
        if note is not None and len(notes) < _NOTES_MOST:
            notes[note] = None
    return replace(
        empty_facts(section.file),
        failures=tuple(failures),
        engine_notes=tuple(notes),
        accelerators=tuple(gpus[index] for index in sorted(gpus)),
    )


def _note(line: str, writer: str) -> EngineNote | None:
    """What a line says; None for most. writer is the engine whose lines the log begins with."""
    found = next((row for row in _WORDS if row[0] in line), None)
    if found is not None:
        return EngineNote(kind=found[1], engine=found[2], text=_message(line))
    offloaded = _OFFLOADED.search(line)
    if offloaded is not None and int(offloaded[1]) < int(offloaded[2]):
        return EngineNote(kind=EngineNoteKind.PARTLY_OFFLOADED, engine=LLAMA, text=_message(line))
    concurrency = _CONCURRENCY.search(line)
    if concurrency is not None and float(concurrency[1]) < 1.0:
        return EngineNote(kind=EngineNoteKind.KV_CACHE_SMALL, engine=writer, text=_message(line))
    return None


def _message(line: str, *, most: int = _SHOWN) -> str:
    """Without time, process and place in the source: "WARNING 01-05 01:02:03 [custom_all_reduce.py:143] Custom ..."."""
    line = line[place.end() :] if (place := _OF_OTHERS.match(line)) is not None else line
    text = line.rpartition("] ")[2] if re.search(r"(?:INFO|WARNING|ERROR) \d\d-\d\d ", line[:120]) else line
    return text.strip()[:most]


def _accelerator(index: int, name: str) -> Accelerator:
    vendor = "amd" if name.startswith(("AMD", "Radeon")) else "nvidia"
    return make_accelerator(
        vendor=vendor, index=index, name=name, address=None, why=Unknown.NOT_RECORDED, source="log of llama.cpp"
    )
