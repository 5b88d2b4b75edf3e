"""The environment report of PyTorch and vLLM (collect_env) and of SGLang (check_env), with and without headings.

Only its own lines are read here; the processors in it are lscpu's, its matrix is that of topo -m. Of the environment only
variables that steer accelerators and engines are kept, and secrets among them are hidden.
"""

from __future__ import annotations

import re
from dataclasses import replace

from bedplate.host.accel.blank import make_accelerator
from bedplate.host.formats.section import Section
from bedplate.host.formats.unrecorded import empty_facts
from bedplate.host.secrets.secret_names import is_secret_name
from bedplate.host.secrets.secrets import hide_secrets_in
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.pci import Accelerator
from bedplate.model.facts.reading import Reading, Unknown, known, missing
from bedplate.model.facts.system import Frameworks

SOURCE = "environment report"
BEGINS = re.compile(
    r"(?:Collecting environment information|"
    r"(?:PyTorch version|vLLM Version|Is debug build|CUDA used to build PyTorch|ROCM used to build PyTorch|Is CUDA available"
    r"|CUDA available|CUDA runtime version|CUDA_MODULE_LOADING set to|GPU models and configuration|Nvidia driver version"
    r"|cuDNN version|HIP runtime version|MIOpen runtime version|Is XPU available|Is XNNPACK available|GCC version"
    r"|Clang version|CMake version|Libc version|Python version|Python platform|CUDA Driver Version|ROCM Version|OS) {0,40}:"
    r"|GPU \d{1,3}(?:,\d{1,3}){0,63}(?: Compute Capability)?: (?!.{0,100}\(UUID)\S"
    r"|(?:NCCL|RCCL|CUDA|VLLM|TORCH|PYTORCH|HIP|ROCR|HSA|SGLANG|SGL|UCX|OMP)_[A-Z0-9_]{2,60}=)"
)
CONTINUES = re.compile(
    r"\s{0,40}(?:System Info|PyTorch Info|Python Environment|CUDA / GPU Info|CPU Info|CPU:|Versions of relevant libraries:?"
    r"|vLLM Info|Environment Variables|GPU Topology:|NVIDIA Topology:)\s{0,8}$"
    r"|\[(?:pip3?|conda)\] |(?:Python|PyTorch|sglang|sgl_kernel|flashinfer_python|transformers|torchao|numpy|vllm|NVCC"
    r"|CUDA_HOME"
    r"|Hypervisor vendor|ulimit soft|vLLM Build Flags|Neuron SDK Version|Could not collect)\b"
    r"|\s{0,8}CUDA Archs: |[A-Za-z_][A-Z0-9_a-z]{2,60}="
    r"|CUDA:|ROCm:|XPU:|[a-z][a-z0-9_.-]{1,40}: {1,4}\d[\w.+-]{0,40}\s{0,4}$|Is [A-Z][\w ]{1,40}: "
)
_GPU = re.compile(r"GPU (\d{1,3}(?:,\d{1,3}){0,63}): {1,4}(\S.{0,80})", re.ASCII)
_PACKAGE = re.compile(r"\[(?:pip3?|conda)\] ([\w.-]{1,60})(?:==| {1,40})(\d[\w.+!-]{0,40})", re.ASCII)
_KEY = re.compile(r"([A-Za-z][\w ()./-]{1,60}?) {0,40}: {0,4}(\S.{0,400})", re.ASCII)
_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]{1,60})=(.{0,2000})")
_STEERING = (
    "NCCL_",
    "RCCL_",
    "CUDA_",
    "VLLM_",
    "TORCH_",
    "PYTORCH_",
    "HIP_",
    "ROCR_",
    "HSA_",
    "SGLANG_",
    "SGL_",
    "UCX_",
    "OMP_",
)
_VERSIONS = {"PyTorch version": "torch", "PyTorch": "torch", "vLLM Version": "vllm", "sglang": "sglang", "vllm": "vllm"}
_ONE_GPU = "GPU models and configuration"
_ARCHITECTURE = re.compile(r" \(gfx[0-9a-f:+a-z-]{1,60}\)")
_TRUE = {"True": True, "False": False}
_UNKNOWN = ("Could not collect", "N/A", "N/A (dev)", "No CUDA")
_GPUS_MOST = 256


def parse_environment(section: Section) -> HostFacts:
    """What the report says of frameworks, GPUs, driver, system and variables; empty where no line says anything."""
    gpus: dict[int, str] = {}
    versions: dict[str, str] = {}
    variables: dict[str, str] = {}
    values: dict[str, str] = {}
    for line in section.text.split("\n"):
        text = line.strip()
        if text.startswith(_ONE_GPU):  # the only GPU stands behind the title
            text = text.removeprefix(_ONE_GPU).lstrip(" :")
        if (gpu := _GPU.fullmatch(text)) is not None and "Compute Capability" not in text:
            for index in gpu[1].split(","):
                if len(gpus) < _GPUS_MOST:
                    gpus.setdefault(int(index), _ARCHITECTURE.sub("", gpu[2].strip()))
        elif (package := _PACKAGE.match(text)) is not None:
            versions.setdefault(package[1], package[2])
        elif (variable := _VARIABLE.fullmatch(text)) is not None:
            if variable[1].startswith(_STEERING):
                variables.setdefault(variable[1], _shown(variable[1], variable[2]))
        elif (key := _KEY.fullmatch(text)) is not None:
            values.setdefault(key[1].strip(), key[2].strip())
    for key_name, package_name in _VERSIONS.items():
        if key_name in values and values[key_name][:1].isdigit():
            versions[package_name] = values[key_name].split(" ")[0]
    facts = empty_facts(section.file)
    driver = values.get("Nvidia driver version") or values.get("CUDA Driver Version") or ""
    system = values.get("OS", "")
    return replace(
        facts,
        accelerators=tuple(_accelerator(index, name, driver) for index, name in sorted(gpus.items())),
        frameworks=Frameworks(
            cuda_available=_cuda(values),
            versions=tuple(sorted(versions.items())),
            environment=tuple(sorted(variables.items())),
            source=SOURCE if versions or variables or values else "",
        ),
        os=replace(facts.os, pretty_name=system.removesuffix(" (x86_64)"), id=_distribution(system)),
    )


def _shown(name: str, value: str) -> str:
    return "***" if is_secret_name(name) else hide_secrets_in(value[:200])


def _cuda(values: dict[str, str]) -> Reading[bool]:
    for key in ("Is CUDA available", "CUDA available"):
        if key in values:
            told = _TRUE.get(values[key])
            where = f"{SOURCE}: {key}"
            return missing(Unknown.MALFORMED, where, values[key]) if told is None else known(told, where)
    return missing(Unknown.NOT_RECORDED, SOURCE)


def _accelerator(index: int, name: str, driver: str) -> Accelerator:
    vendor = "amd" if name.startswith(("AMD", "Radeon")) else "intel" if name.startswith("Intel") else "nvidia"
    blank = make_accelerator(vendor=vendor, index=index, name=name, address=None, why=Unknown.NOT_RECORDED, source=SOURCE)
    told = driver and driver not in _UNKNOWN and driver[0].isdigit() and vendor == "nvidia"
    return replace(blank, driver_version=known(driver.split(" ")[0], f"{SOURCE}: Nvidia driver version")) if told else blank


def _distribution(system: str) -> str:
    words = system.lower()
    return next((name for name in ("ubuntu", "debian", "fedora", "rocky", "almalinux", "rhel") if name in words), "")
