"""The tables of machine.toml besides [network] and [front], key by key. None of them ever holds a secret."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from bedplate.model.policy_name import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeConfig:
    """[time]: where the machine gets its time."""

    servers: tuple[str, ...] = ()
    """Names or addresses of NTP servers. Empty: those that DHCP names, else those of Debian's pool."""


class Role(StrEnum):
    """What an administrator may do."""

    VIEWER = "viewer"
    """Reads state, logs and metrics, and changes nothing."""
    OPERATOR = "operator"
    """Also changes models, serving, tuning and the stack."""
    ADMIN = "admin"
    """Also changes the configuration and keys, and reboots."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdministratorConfig:
    """[[administrator]]: a person who may manage the machine, and with which SSH keys."""

    name: str
    """2 to 32 of a-z, 0-9 and -; every change is logged with it."""
    role: Role = Role.VIEWER
    keys: tuple[str, ...] = ()
    """SSH public keys, a line each as in a .pub file: ed25519, ECDSA, their sk- forms, or RSA of 3072 bits or more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModelConfig:
    """[[serve.model]]: a model that the machine shall serve."""

    name: str
    """Name by which clients ask for it, as `bedplate model list` shows it."""
    source: str = ""
    """Where it is had from: "hf:ORG/NAME@REVISION", "https://HOST/PATH" or "/PATH". Empty: it is in the machine's store."""
    sha256: str = ""
    """Hex digest of its file; empty only where the source needs none, since it is on this machine."""
    engine: str = ""
    """"llamacpp", "vllm" or "transformers"; the layer of this engine must be on the machine. Empty: a GGUF file is served by
    llamacpp, and a directory of safetensors by vllm or else transformers, whichever has a layer."""
    clients: tuple[str, ...] = ()
    """Ids of the clients' keys that may use it; empty: every key that is not bound to other models. This is kept for
    later and refuses nobody yet: bind a key to its models with `bedplate key add ID --model NAME`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeConfig:
    """[serve]: what the machine serves."""

    model: tuple[ServedModelConfig, ...] = ()
    """A table for each model, below. Models that no table names are served, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningConfig:
    """[tuning]: how the machine is tuned at each boot."""

    policy: Policy = Policy.SHARED_HOST


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateConfig:
    """[update]: which updates the machine takes, and when."""

    channel: str = "stable"
    """Name of a channel: letters, digits and ._-"""
    window: str = ""
    """When it may restart for an update, local time: "Sun 02:00-04:00", or "02:00-04:00" for each day. Empty: never by
    itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """[log]: where the journal goes, and how much of it is kept."""

    destination: str = ""
    """ADDRESS:PORT of a systemd-journal-remote that listens for the journal's own format, which is sent as plain TCP:
    everybody on the way can read it. Empty: it stays on the machine."""
    max_mib: int = 256
    """Largest size of the journal on the disk, in MiB, 16 to 65536."""
    keep_days: int = 0
    """Days after which entries go; 0: only when the size is reached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyConfig:
    """[proxy]: how the machine reaches the internet, where it does not do so directly."""

    url: str = ""
    """HTTP proxy for what the machine downloads, http://HOST:PORT, without user and password. Empty: none."""
    exceptions: tuple[str, ...] = ()
    """Names and addresses that are reached without it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorConfig:
    """[mirror]: private copies of what is otherwise fetched from the internet."""

    models: str = ""
    """Base address of a mirror that speaks Hugging Face's protocol, https://HOST/PATH. Empty: the public one."""
    updates: str = ""
    """Base address of a mirror of images. Empty: that of the channel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryConfig:
    """[recovery]: who can open /var when the TPM does not."""

    recipients: tuple[str, ...] = ()
    """Certificates in PEM, each whole in one text, to whose private keys the recovery key is encrypted."""
