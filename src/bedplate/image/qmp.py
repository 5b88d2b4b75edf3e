"""A few words of the QEMU Machine Protocol. Source: docs/interop/qmp-spec.rst of QEMU."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

from bedplate.errors import BootError


def connect_unix(directory: Path, name: str, *, timeout_s: float) -> socket.socket:
    """A connection to the socket `name` in a directory whose path may be longer than the 107 bytes of a socket's."""
    descriptor = os.open(directory, os.O_PATH | os.O_CLOEXEC)
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        client.settimeout(timeout_s)
        client.connect(f"/proc/self/fd/{descriptor}/{name}")
    except BaseException:
        client.close()
        raise
    finally:
        os.close(descriptor)
    return client


def send_qmp(
    directory: Path, name: str, command: str, arguments: dict[str, Any] | None = None, *, timeout_s: float = 5.0
) -> Any:
    """Send one command and return what QEMU answers; raises BootError when QEMU refuses or does not answer."""
    answer: Any = None
    try:
        with connect_unix(directory, name, timeout_s=timeout_s) as client, client.makefile("rwb") as stream:
            stream.readline()  # the greeting
            for word, named in (("qmp_capabilities", None), (command, arguments)):
                stream.write(json.dumps({"execute": word} | ({"arguments": named} if named else {})).encode() + b"\n")
                stream.flush()
                while line := stream.readline():
                    said = json.loads(line)
                    if "error" in said:
                        raise BootError(f"QEMU refused {word}: {said['error'].get('desc')}")
                    if "return" in said:
                        answer = said["return"]
                        break  # anything else is an event
    except (OSError, ValueError) as error:
        raise BootError(f"{directory / name}: QEMU does not answer: {error}") from error
    return answer
