"""Start-up logs of vLLM and llama.cpp: what they say of devices that they found, of the KV cache, of slower paths.

Only sentences that say how the engine runs are kept. Sources: vllm/platforms, vllm/v1/core/kv_cache_utils.py and
vllm/distributed/device_communicators of vLLM; src/llama-model.cpp, common/arg.cpp and ggml/src/ggml-cuda of llama.cpp.
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
# What journalctl and `docker compose logs` put before a line may stand before each.
BEGINS = re.compile(
    r"(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S{1,80} [\w.@-]{1,80}\[\d{1,10}\]: |[\w.-]{1,60} {1,12}\| )?(?:"
    r"(?:\([A-Za-z0-9_:= ]{2,60}\) {1,2}){0,2}(?:INFO|WARNING|ERROR|DEBUG) \d\d-\d\d \d\d:\d\d:\d\d "
    r"|ggml_cuda_init: |ggml_vulkan: |llama_model_loader: |load_tensors: |llama_context: |llama_kv_cache\w{0,20}: "
    r"|print_info: |warning: no usable GPU found|build: \d{3,6} \([0-9a-f]{6,12}\)|system_info: n_threads)"
)
CONTINUES = re.compile(
    r"(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S{1,80} [\w.@-]{1,80}\[\d{1,10}\]: |[\w.-]{1,60} {1,12}\| )?(?:"
    r"  Device \d{1,3}: |warning: |main: |srv {1,8}\w|slot {1,8}\w|llm_load_\w|common_init|init: "
    r"|\.{4,200}$|sched_reserve: )"
)
_DEVICE = re.compile(r"  Device (\d{1,3}): (\S.{0,80}?), compute capability", re.ASCII)
_OFFLOADED = re.compile(r"offloaded (\d{1,4})/(\d{1,4}) layers to GPU", re.ASCII)
_CONCURRENCY = re.compile(r"Maximum concurrency for [\d,]{1,12} tokens per request: (\d{1,6}\.\d{1,3})x", re.ASCII)
_WORDS = (
    ("no usable GPU found", EngineNoteKind.NO_DEVICE),
    ("compiled without GPU support", EngineNoteKind.NO_DEVICE),
    ("ggml_cuda_init: failed to initialize CUDA", EngineNoteKind.NO_DEVICE),
    ("No platform detected", EngineNoteKind.NO_DEVICE),
    ("Automatically detected platform cpu", EngineNoteKind.NO_DEVICE),
    ("Cudagraph is disabled under eager mode", EngineNoteKind.EAGER),
    ("CUDA graphs are disabled", EngineNoteKind.EAGER),
    ("Custom allreduce is disabled", EngineNoteKind.NO_CUSTOM_ALLREDUCE),
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
        kind = _kind(line)
        if kind is not None and len(notes) < _NOTES_MOST:
            notes[EngineNote(kind=kind, engine=engine, text=_message(line))] = None
    return replace(
        empty_facts(section.file),
        failures=tuple(failures),
        engine_notes=tuple(notes),
        accelerators=tuple(gpus[index] for index in sorted(gpus)),
    )


def _kind(line: str) -> EngineNoteKind | None:
    found = next((kind for words, kind in _WORDS if words in line), None)
    if found is not None:
        return found
    offloaded = _OFFLOADED.search(line)
    if offloaded is not None and int(offloaded[1]) < int(offloaded[2]):
        return EngineNoteKind.PARTLY_OFFLOADED
    concurrency = _CONCURRENCY.search(line)
    return EngineNoteKind.KV_CACHE_SMALL if concurrency is not None and float(concurrency[1]) < 1.0 else None


def _message(line: str, *, most: int = _SHOWN) -> str:
    """Without time, process and place in the source: "WARNING 01-05 01:02:03 [custom_all_reduce.py:143] Custom ..."."""
    text = line.rpartition("] ")[2] if re.search(r"(?:INFO|WARNING|ERROR) \d\d-\d\d ", line[:120]) else line
    return text.strip()[:most]


def _accelerator(index: int, name: str) -> Accelerator:
    vendor = "amd" if name.startswith(("AMD", "Radeon")) else "nvidia"
    return make_accelerator(
        vendor=vendor, index=index, name=name, address=None, why=Unknown.NOT_RECORDED, source="log of llama.cpp"
    )
