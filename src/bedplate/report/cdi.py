"""A grant of devices as a CDI file, by which container engines give accelerators to containers.

Container Device Interface 0.6.0 (cncf-tags/container-device-interface, SPEC.md): one JSON object below /run/cdi or /etc/cdi.
NVIDIA's own generator is in no suite of Debian; what it writes for graphics is not written here.
"""

from __future__ import annotations

import json
from typing import Any

from bedplate.model.device_grant import DeviceGrant

_VERSION = "0.6.0"
ALL = "all"
"""The name by which a container gets every device."""


def cdi_object(grant: DeviceGrant) -> dict[str, Any]:
    """The CDI object of a grant; its devices have the grant's names, and `all` is all of them."""
    devices = [{"name": device.name, "containerEdits": _edits(device.nodes)} for device in grant.devices]
    if grant.devices:
        every = [node for device in grant.devices for node in device.nodes]
        devices.append({"name": ALL, "containerEdits": _edits(tuple(every))})
    mounts = [
        {"hostPath": file.host, "containerPath": file.inside, "options": ["ro", "nosuid", "nodev", "bind"]}
        for file in grant.files
    ]
    shared = _edits(grant.shared) | ({"mounts": mounts} if mounts else {})
    return {"cdiVersion": _VERSION, "kind": grant.kind, "devices": devices, "containerEdits": shared}


def render_cdi(grant: DeviceGrant) -> str:
    """The text of the file; the same grant gives the same bytes."""
    return json.dumps(cdi_object(grant), indent=2) + "\n"


def _edits(nodes: tuple[str, ...]) -> dict[str, Any]:
    return {"deviceNodes": [{"path": node, "permissions": "rw"} for node in nodes]}
