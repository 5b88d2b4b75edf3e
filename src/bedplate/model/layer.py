"""A built engine layer as its record describes it, what GPU code it holds, and whether it is offered for a GPU."""

from __future__ import annotations

from dataclasses import dataclass

from bedplate.model.facts.stack import DeviceCode


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuCode:
    """The GPU back ends of one layer."""

    layer: str
    """Name of the layer: "llamacpp-cuda"."""
    apis: tuple[str, ...]
    """ "cuda", "hip", "vulkan"; () for a layer that computes on CPUs alone."""
    binaries: tuple[DeviceCode, ...]
    """The files that hold code for GPUs, and for which; a back end for Vulkan holds none that is bound to a GPU."""
    driver_floors: tuple[str, ...] = ()
    """What the packages ask of the driver's libraries, as Debian writes it: "libcuda1 (>= 525)"."""
    toolkit: str = ""
    """What compiled it, which a driver must know to compile PTX: "CUDA 12.4"; "" where that is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerOffer:
    """Whether a layer is offered for a GPU, and why."""

    layer: str
    device: str
    """Title of the device: "NVIDIA B200"."""
    offered: bool
    because: str
    instead: str = ""
    """What would run on the device; "" where the layer does."""
