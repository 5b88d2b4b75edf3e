"""What an engine gets of a machine's accelerators: device nodes, and files of the driver's user space."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantedFile:
    """A file of the host that is shown, read-only, at another path in an engine's root."""

    host: str
    inside: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantedDevice:
    """One accelerator: `name` is what an engine asks for it by ("0"), `nodes` are its own."""

    name: str
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceGrant:
    """The accelerators of one kind ("nvidia.com/gpu"), the nodes that each of them needs as well, and the files."""

    kind: str
    devices: tuple[GrantedDevice, ...]
    shared: tuple[str, ...]
    files: tuple[GrantedFile, ...]

    def nodes_of(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The nodes of these devices, the shared ones first, each once. Raises ValueError for a name that is not there."""
        by_name = {device.name: device for device in self.devices}
        unknown = [name for name in names if name not in by_name]
        if unknown or not names:
            asked = ", ".join(unknown) or "none"
            raise ValueError(f"{self.kind}: got {asked}, expected one or more of {', '.join(by_name) or 'no device'}")
        own = [node for name in names for node in by_name[name].nodes]
        return tuple(dict.fromkeys((*self.shared, *own)))
