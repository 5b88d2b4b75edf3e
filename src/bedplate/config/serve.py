"""[serve]: which models the machine shall serve, where they are had from, who may use them; only the engine counts yet."""

from __future__ import annotations

import re

from bedplate.config.kind import ConfigKind, check_each, check_length, shown
from bedplate.model.engine_names import ENGINE_NAMES
from bedplate.model.instance import is_model_name
from bedplate.model.machine_config import MachineConfig
from bedplate.model.machine_tables import ServedModelConfig

_CLIENT = re.compile(r"[a-z0-9][a-z0-9-]{1,31}")  # as catalog/client_keys.py has the id of a key
_DIGEST = re.compile(r"[0-9a-f]{64}")
_PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_SOURCE = re.compile(
    rf"hf:{_PART}/{_PART}(?:@[A-Za-z0-9][A-Za-z0-9._/-]{{0,95}})?"
    r"|https://[A-Za-z0-9.-]{1,253}(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~%+@/-]*)?"
    r"|/[A-Za-z0-9._/@+-]{1,250}"
)


def _check(config: MachineConfig) -> list[str]:
    problems = check_length("serve.model", config.serve.model)
    names: list[str] = []
    for index, model in enumerate(config.serve.model):
        where = f"serve.model[{index}]"
        problems += _check_model(where, model)
        if model.name in names:
            problems.append(f"{where}.name: got {shown(model.name)}, which an earlier model has")
        names.append(model.name)
    return problems


def _check_model(where: str, model: ServedModelConfig) -> list[str]:
    problems = check_each(
        f"{where}.clients", model.clients, _is_client, "the id of a client's key: 2 to 32 of a-z, 0-9 and -"
    )
    if not is_model_name(model.name):
        problems.append(f"{where}.name: got {shown(model.name)}, expected the name of a model")
    if model.engine and model.engine not in ENGINE_NAMES:
        problems.append(f"{where}.engine: got {shown(model.engine)}, expected one of {', '.join(ENGINE_NAMES)}")
    if model.source and (_SOURCE.fullmatch(model.source) is None or ".." in model.source.split("/")):
        expected = "hf:ORG/NAME@REVISION, https://HOST/PATH or an absolute path"
        problems.append(f"{where}.source: got {shown(model.source)}, expected {expected}")
    if model.sha256 and _DIGEST.fullmatch(model.sha256) is None:
        problems.append(f"{where}.sha256: got {shown(model.sha256)}, expected 64 hex digits in small letters")
    if model.source.startswith(("hf:", "https:")) and not model.sha256:
        problems.append(f"{where}.sha256: is empty, expected the digest of what {shown(model.source)} gives")
    return problems


def _is_client(text: str) -> bool:
    return _CLIENT.fullmatch(text) is not None


KIND = ConfigKind(
    table="serve",
    check=_check,
    later="chooses the engine of a model, and nothing else yet: every model of the machine is served; fetch them with"
    " `bedplate model pull`; `bedplate key add --model` decides who may use which",
)
