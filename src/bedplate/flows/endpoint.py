"""Where the models of this host answer."""

from __future__ import annotations

from bedplate.errors import NotRunningError
from bedplate.front.tls import LOCAL_SOCKET
from bedplate.host.root.root import Root
from bedplate.host.system.booted import is_bedplate_system


def find_endpoint() -> str:
    """Where to ask without being told: this system's own front door in a guest, the machine that runs on a host.

    Raises NotRunningError when none runs.
    """
    if is_bedplate_system(Root()):
        return f"unix:{LOCAL_SOCKET}"  # whatever machine.toml says of addresses, TLS and keys
    from bedplate.act.paths import find_paths
    from bedplate.image.machine import read_machine  # the image is built without it

    machine = read_machine(find_paths())
    if machine is None:
        raise NotRunningError(
            "no machine is running", hint="Start one with `bedplate up`, or name an endpoint with --endpoint URL."
        )
    return machine.endpoint
