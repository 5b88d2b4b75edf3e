"""What the rooms must agree on about one served model: the names made from its own, and the room for the probe."""

from __future__ import annotations

import re
import zlib

from bedplate.errors import ModelRefused

ENGINE_DIRECTORY = "/run/bedplate/engine"
LAYER_DIRECTORY = "/run/bedplate/layer"
"""Where the layers of engines are mounted, each once."""
ENGINE_SETTINGS = "/usr/lib/bedplate/engine.d"
"""In an image: drop-ins of engines that need more than the common unit, and what runs in their processes."""
SHOWN_SETTINGS = "/run/bedplate/engine.d"
"""Where such an engine sees that directory."""
FRONT_SCRIPT, IMAGE_SCRIPT = "/run/bedplate/request.lua", "/usr/lib/bedplate/request.lua"
"""The Lua script of the front: where HAProxy finds it, and where an image has it ready."""
BATCH_TOKENS = 512  # of a prompt, between two tokens of everybody else
FRONTS_AT_ONCE = 8  # processes of the front that send requests to one engine: the present one, and those that a reload left
PROBE_TOKENS = 64  # room in the KV pool beside what requests may take: a token that is decided on has a place
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}")
_STORED_LENGTH, _STORED_FILE_LENGTH = 100, 240
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_PATH_UNSAFE = re.compile(r"^\.|[^A-Za-z0-9:_./]")
_CHECKSUM = re.compile(r".*-[0-9a-f]{8}")
_LONGEST = 64  # of 108 bytes of a Unix socket's path (sun_path, unix(7))


def is_model_name(name: str) -> bool:
    """Whether the store may call a model so: as hubs and clients write names, "Qwen/Qwen3-8B", "qwen3:8b".

    No part between slashes is empty, "." or "..": the name stands in URLs, where these mean something else.
    """
    parts = name.split("/")
    if len(name) + 2 * sum(name.count(sign) for sign in "/:@+") > _STORED_FILE_LENGTH:
        return False  # its record is a file, in whose name each of these takes three bytes
    return len(name) <= _STORED_LENGTH and _NAME.fullmatch(name) is not None and not {"", ".", ".."} & set(parts)


def instance_of(model: str) -> str:
    """The instance of a model: its name where systemd, HAProxy and a path take that as it is, else a form with a checksum.

    "known-answer" -> "known-answer"; "Qwen/Qwen3-8B" -> "Qwen_Qwen3-8B-" and 8 hexadecimal digits. A name that looks like
    the second form gets a checksum too, so that two names never meet but by a collision of CRC-32. The template unit takes
    %i as it stands, without unescaping. Raises ModelRefused for a name that could break a configuration file.
    """
    if _NAME.fullmatch(model) is None:
        raise ModelRefused(
            f"{model!r} is not a valid model name: expected a letter or digit, then up to 127 of letters, digits, ._:/@+-",
            hint="Add the model again with another --name.",
        )
    safe = _UNSAFE.sub("_", model)
    if safe == model and len(safe) <= _LONGEST and _CHECKSUM.fullmatch(model) is None:
        return safe
    return f"{safe[: _LONGEST - 9]}-{zlib.crc32(model.encode()):08x}"


def token_variable_of(instance: str) -> str:
    """The front's process variable that stands once the engine of an instance has made a token: "token_1f0c8a3e".

    By the instance and not by its place among the models: a reload of the front carries it over, and places change with the
    set of models. HAProxy takes letters, digits, "_" and "." in such a name, so that it is a CRC-32.
    """
    return f"token_{zlib.crc32(instance.encode()):08x}"


def socket_of(model: str) -> str:
    """Path of the Unix socket that the engine of a model listens on."""
    return f"{ENGINE_DIRECTORY}/{instance_of(model)}/http.sock"


def model_file_of(model: str) -> str:
    """Path under which the engine of a model, and only that engine, sees the model's file."""
    return f"/run/bedplate/model/{instance_of(model)}"


def unit_of(instance: str) -> str:
    """The unit of the engine with this instance name: "bedplate-engine@known-answer.service"."""
    return f"bedplate-engine@{instance}.service"


def layer_instance_of(path: str) -> str:
    """The instance of a layer: the path of its disk or file as `systemd-escape --path` writes it, which %f undoes.

    "/dev/vdb" -> "dev-vdb"; "/var/lib/a-b.raw" -> r"var-lib-a\x2db.raw". Source: unit_name_path_escape() of systemd.
    """
    escaped = _PATH_UNSAFE.sub(lambda match: "".join(f"\\x{byte:02x}" for byte in match[0].encode()), path.strip("/"))
    return escaped.replace("/", "-")


def layer_unit_of(path: str) -> str:
    """Name of the systemd unit that verifies and mounts the layer on this disk or file: "bedplate-layer@dev-vdb.service"."""
    return f"bedplate-layer@{layer_instance_of(path)}.service"


def layer_root_of(path: str) -> str:
    """The directory where that unit mounts the layer, whether it runs or not."""
    return f"{LAYER_DIRECTORY}/{layer_instance_of(path)}"
