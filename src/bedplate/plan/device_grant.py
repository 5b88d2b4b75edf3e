"""Which device nodes and files of NVIDIA's driver an engine gets: those of the accelerators that it uses, and no other.

Nodes: NVIDIA's README of the driver, "Compute and the device files" (/dev/nvidiactl and /dev/nvidia-uvm for each process,
/dev/nvidiaN for each card by its minor number), and its MIG user guide (/dev/nvidia-caps). Not granted: nvidia-modeset,
which draws, and nvidia-uvm-tools, which debuggers use.
"""

from __future__ import annotations

from collections.abc import Sequence

from bedplate.model.device_grant import DeviceGrant, GrantedDevice, GrantedFile

NVIDIA_GPU = "nvidia.com/gpu"
_SHARED = ("/dev/nvidiactl", "/dev/nvidia-uvm")
_MOST_MINOR = 254  # 255 is nvidiactl; all nodes have major 195
_LIBRARIES, _PROGRAMS = "/usr/lib/x86_64-linux-gnu", "/usr/bin"


def plan_nvidia_grant(
    minors: Sequence[int], *, driver: str, libraries: Sequence[str], programs: Sequence[str] = ()
) -> DeviceGrant:
    """What engines may get of the cards with these minor numbers.

    driver is the name of the layer; libraries and programs are names of files in its lib and bin, links among them. Raises
    ValueError for a number that no card has, or one that comes twice, and for a name with a directory in it.
    """
    for minor in minors:
        if not 0 <= minor <= _MOST_MINOR or list(minors).count(minor) > 1:
            raise ValueError(f"minor number: got {minor}, expected each number of 0 to {_MOST_MINOR} once at most")
    for name in (*libraries, *programs):
        if "/" in name or not name:
            raise ValueError(f"file of {driver}: got {name!r}, expected a name without a directory")
    own = f"/usr/lib/bedplate/driver/{driver}"
    files = [GrantedFile(host=f"{own}/lib/{name}", inside=f"{_LIBRARIES}/{name}") for name in sorted(libraries)]
    files += [GrantedFile(host=f"{own}/bin/{name}", inside=f"{_PROGRAMS}/{name}") for name in sorted(programs)]
    devices = tuple(GrantedDevice(name=str(minor), nodes=(f"/dev/nvidia{minor}",)) for minor in sorted(minors))
    return DeviceGrant(kind=NVIDIA_GPU, devices=devices, shared=_SHARED, files=tuple(files))


def plan_device_allow(grant: DeviceGrant, names: Sequence[str]) -> tuple[str, ...]:
    """Lines of a unit's [Service] that allow exactly the devices of these names (systemd.resource-control(5)).

    "closed" leaves /dev/null, zero, full, random, urandom, tty and ptmx. Raises ValueError for a device that is not there.
    """
    nodes = grant.nodes_of(tuple(names))
    return ("DevicePolicy=closed", *(f"DeviceAllow={node} rw" for node in nodes))
