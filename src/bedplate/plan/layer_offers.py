"""Which engine layers are offered for a GPU: only those whose binaries hold code that it runs.

A layer without such code would start, find no device and serve on the CPUs, many times slower, with no error. So it is
never offered, and the answer names what would run: another layer, or the stack that the rows of the catalogue allow. PTX for
exactly the GPU's architecture counts as its code. PTX of an older generation does not: a driver may compile it, but no build
of ours was seen to run so.
"""

from __future__ import annotations

from collections.abc import Sequence

from bedplate.model.facts.stack import DeviceCode
from bedplate.model.layer import GpuCode, LayerOffer
from bedplate.model.stack import StackCatalogue, StackDevice, StackHardware, StackLock, StackWish
from bedplate.model.version_condition import VersionCondition
from bedplate.plan.resolve.resolve import resolve
from bedplate.plan.rules.device_code import runs_code

_APIS = {"nvidia": "cuda", "amd": "hip"}
_SOURCES = {"nvidia": "nvidia", "amd": "amd"}
_SHOWN = 12


def offer_layers(
    layers: Sequence[GpuCode], device: StackDevice, catalogue: StackCatalogue, *, with_alternatives: bool = True
) -> tuple[LayerOffer, ...]:
    """An answer for each of the layers, in their order.

    with_alternatives: a refusal names what would run, for which the catalogue is resolved once (a tenth of a second).
    """
    judged = [_judge(layer, device) for layer in layers]
    if all(offer.offered for offer in judged) or not with_alternatives:
        return tuple(judged)
    running = [(layer, offer) for layer, offer in zip(layers, judged, strict=True) if offer.offered]
    bound = [offer.layer for layer, offer in running if "vulkan" not in layer.apis]
    if bound:
        instead = f"the layer {' or '.join(bound)}"
    else:
        portable = "".join(f"; or the layer {offer.layer}, which was tried on no accelerator" for _, offer in running)
        instead = find_alternative(device, catalogue) + portable
    return tuple(
        offer
        if offer.offered
        else LayerOffer(layer=offer.layer, device=offer.device, offered=False, because=offer.because, instead=instead)
        for offer in judged
    )


def find_alternative(device: StackDevice, catalogue: StackCatalogue) -> str:
    """What runs on a device by the rows of the catalogue, with sources that are not free to take: a phrase.

    Where no row holds code for it, the phrase says which code a build of the user's own must hold.
    """
    (architecture,) = device.properties.get("architecture", ("unknown",))[:1]
    vendors = device.properties.get("vendor", ())
    sources = ("debian", "pypi", *(_SOURCES[vendor] for vendor in vendors if vendor in _SOURCES))
    hardware = StackHardware(accelerators=(device,), properties={"gpu": vendors})
    for engine in ("vllm", "sglang"):
        wish = StackWish(engines=(VersionCondition(component=engine),), sources=sources)
        answer = resolve(wish, hardware, catalogue)
        if isinstance(answer, StackLock):
            versions = {choice.release.component: choice.release for choice in answer.choices}
            driver = versions.get("nvidia-driver") or versions.get("amdgpu")
            below = f" on {driver.component} {driver.version} ({driver.source})" if driver is not None else ""
            return f"{engine} {versions[engine].version} ({versions[engine].source}){below}"
    return f"a build of the engine that holds {architecture}, of a source of your own: the catalogue has none"


def _judge(layer: GpuCode, device: StackDevice) -> LayerOffer:
    vendors = device.properties.get("vendor", ())
    code = device.properties.get("code", ())
    held = DeviceCode(
        path="",
        architectures=tuple(dict.fromkeys(name for binary in layer.binaries for name in binary.architectures)),
        intermediate=tuple(dict.fromkeys(name for binary in layer.binaries for name in binary.intermediate)),
    )
    if not layer.apis:
        return _offer(layer, device, "it computes on CPUs alone", offered=False)
    if "vulkan" in layer.apis:
        return _offer(layer, device, "its Vulkan back end holds code that the driver compiles for any GPU", offered=True)
    wanted = [_APIS[vendor] for vendor in vendors if vendor in _APIS]
    if not set(wanted) & set(layer.apis):
        apis = " and ".join(layer.apis)
        return _offer(layer, device, f"it is built for {apis}, which this GPU does not run", offered=False)
    for name in code:
        if name in held.architectures:
            return _offer(layer, device, f"it holds {name}, which this GPU runs", offered=True)
    for name in code:
        if name in held.intermediate:
            because = f"it holds PTX for {name}, which a driver that knows {layer.toolkit or 'its version of CUDA'} compiles"
            return _offer(layer, device, because, offered=True)
    there = " and ".join(
        text
        for text in (
            ", ".join(held.architectures[:_SHOWN]),
            f"PTX for {', '.join(held.intermediate[:_SHOWN])}" if held.intermediate else "",
        )
        if text
    )
    runs = ", ".join(code) or "another one"
    because = f"it holds code for {there or 'no GPU'}, and this GPU runs {runs}"
    if runs_code(held, code):  # by the driver's compiler alone
        because += "; PTX of an older generation was tried on no GPU"
    return _offer(layer, device, because, offered=False)


def _offer(layer: GpuCode, device: StackDevice, because: str, *, offered: bool) -> LayerOffer:
    return LayerOffer(layer=layer.layer, device=device.title, offered=offered, because=because)
