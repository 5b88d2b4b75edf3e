"""Which engine layers are offered for which GPU: never one whose code the GPU does not run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bedplate.catalog.stack import read_stack
from bedplate.model.facts.stack import DeviceCode
from bedplate.model.layer import GpuCode
from bedplate.model.stack import StackHardware, StackLock, StackWish
from bedplate.model.version_condition import VersionBound, VersionCondition
from bedplate.plan.layer_offers import offer_layers
from bedplate.plan.resolve.resolve import resolve

ROWS = read_stack()
DEVICES = {device.id: device for device in ROWS.devices}


def layer(name: str, api: str, *architectures: str, intermediate: tuple[str, ...] = ()) -> GpuCode:
    code = DeviceCode(path=f"/usr/lib/libggml-{api}.so", architectures=architectures, intermediate=intermediate)
    return GpuCode(layer=name, apis=(api,), binaries=(code,) if architectures or intermediate else ())


# What the back ends of Debian sid hold (0.27.0), counted in their files.
PTX = ("sm_50", "sm_61", "sm_70", "sm_75", "sm_80", "sm_90")
CUDA = replace(layer("llamacpp-cuda", "cuda", "sm_86", "sm_89", intermediate=PTX), toolkit="CUDA 12.4")
HIP = layer(
    "llamacpp-hip", "hip", "gfx803", "gfx900", "gfx906", "gfx908", "gfx90a", "gfx1010", "gfx1030", "gfx1100", "gfx1102"
)
VULKAN = layer("llamacpp-vulkan", "vulkan")
CPU = GpuCode(layer="llamacpp", apis=(), binaries=())
RUNS = {
    "llamacpp-cuda": {"v100", "t4", "a100", "l4", "l40s", "geforce-4090", "h100", "h200"},
    "llamacpp-hip": {"mi50", "mi210", "mi250x"},
    "llamacpp-vulkan": set(DEVICES),
    "llamacpp": set[str](),
}


@pytest.mark.parametrize("device", DEVICES)
def test_a_layer_is_offered_for_the_gpus_that_run_its_code_and_for_no_other(device: str) -> None:
    offers = offer_layers((CUDA, HIP, VULKAN, CPU), DEVICES[device], ROWS, with_alternatives=False)
    assert {offer.layer: offer.offered for offer in offers} == {name: device in devices for name, devices in RUNS.items()}
    assert all(offer.because for offer in offers)


@pytest.mark.parametrize(
    ("device", "because", "instead"),
    [
        (
            "b200",
            (
                "it holds code for sm_86, sm_89 and PTX for sm_50, sm_61, sm_70, sm_75, sm_80, sm_90, and this GPU runs "
                "sm_100; PTX of an older generation was tried on no GPU"
            ),
            "vllm 0.33.0 (pypi) on nvidia-driver 580.178.04 (nvidia)",
        ),
        (
            "mi300x",
            "it is built for cuda, which this GPU does not run",
            "a build of the engine that holds gfx942, of a source of your own: the catalogue has none",
        ),
        ("mi210", "it is built for cuda, which this GPU does not run", "the layer llamacpp-hip"),
    ],
)
def test_a_refusal_says_why_and_what_would_run(device: str, because: str, instead: str) -> None:
    cuda, _ = offer_layers((CUDA, HIP), DEVICES[device], ROWS)
    assert (cuda.offered, cuda.because, cuda.instead) == (False, because, instead)
    assert cuda.device == DEVICES[device].title


def test_a_back_end_that_is_bound_to_no_gpu_is_named_as_untried() -> None:
    hip, vulkan = offer_layers((HIP, VULKAN), DEVICES["mi300x"], ROWS)
    assert not hip.offered and vulkan.offered and not vulkan.instead
    assert hip.because == (
        "it holds code for gfx803, gfx900, gfx906, gfx908, gfx90a, gfx1010, gfx1030, gfx1100, gfx1102, "
        "and this GPU runs gfx942"
    )
    assert hip.instead.endswith("; or the layer llamacpp-vulkan, which was tried on no accelerator")


def test_machine_code_comes_before_what_the_driver_compiles() -> None:
    said = {name: offer_layers((CUDA,), DEVICES[name], ROWS)[0].because for name in ("l40s", "h100", "t4")}
    assert said == {
        "l40s": "it holds sm_89, which this GPU runs",
        "h100": "it holds PTX for sm_90, which a driver that knows CUDA 12.4 compiles",
        "t4": "it holds PTX for sm_75, which a driver that knows CUDA 12.4 compiles",
    }


@pytest.mark.parametrize(("device", "driver"), [("h100", "550"), ("a100", "550"), ("l40s", "535")])
def test_the_lock_takes_a_driver_that_compiles_the_ptx(device: str, driver: str) -> None:
    """With 535, which knows CUDA 12.2, the back end would find no code that it can start on an H100."""
    hardware = StackHardware(accelerators=(DEVICES[device],), properties={"gpu": ("nvidia",)})
    cuda = VersionCondition(
        component="ggml-backend", name="api", alternatives=((VersionBound(operator="==", value="cuda"),),)
    )
    wish = StackWish(engines=(VersionCondition(component="llama-cpp"),), require=(cuda,))
    answer = resolve(wish, hardware, ROWS)
    assert isinstance(answer, StackLock)
    (chosen,) = (choice.release.version for choice in answer.choices if choice.release.component == "nvidia-driver")
    assert chosen.startswith(driver)


def test_the_code_of_several_files_counts_together() -> None:
    both = replace(CUDA, binaries=(*CUDA.binaries, *layer("a", "cuda", "sm_90").binaries))
    (offer,) = offer_layers((both,), DEVICES["h100"], ROWS)
    assert offer.offered and offer.because == "it holds sm_90, which this GPU runs"


def test_a_layer_whose_code_cannot_be_read_is_not_offered() -> None:
    (offer,) = offer_layers((layer("x", "cuda"),), DEVICES["h100"], ROWS, with_alternatives=False)
    assert not offer.offered and "it holds code for no GPU" in offer.because
