"""What an operator decides about one machine, apart from its image: machine.toml, key by key.

Every key has a default, and the defaults are closed: TLS with a certificate of the machine's own, and no answer without a
key. Where the file is looked for, and what a damaged one does: docs/decisions/0070-machine-configuration.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from bedplate.model.machine_network import NetworkConfig
from bedplate.model.machine_tables import (
    AdministratorConfig,
    LogConfig,
    MirrorConfig,
    ProxyConfig,
    RecoveryConfig,
    ServeConfig,
    TimeConfig,
    TuningConfig,
    UpdateConfig,
)

MACHINE_FILES = (
    "/var/lib/bedplate/machine.toml",
    "/etc/bedplate/machine.toml",
    "/usr/lib/bedplate/machine.toml",
)
"""The first that exists is read, and no other. The last one is part of the image."""
CONFIG_KEYS = "/usr/lib/bedplate/config.keys"
"""Public keys that may sign a configuration, part of the image; each line "owner ed25519 KEY"."""
DEFAULT_PORT = 8080


class TlsSource(StrEnum):
    """Where the certificate and the private key of the front end come from."""

    OWN_CA = "own-ca"
    """A CA that the machine makes at its first boot signs a certificate for eight days, which is renewed after four."""
    FILES = "files"
    """You supply both as files."""
    EPHEMERAL = "ephemeral"
    """A self-signed certificate whose key is made at each boot and never leaves memory; clients must pin it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsConfig:
    """[front.tls]: how the front end proves who it is, and whether clients must."""

    source: TlsSource = TlsSource.OWN_CA
    names: tuple[str, ...] = ()
    """DNS names and IP addresses in the certificate, beside the host name, localhost and the loopback addresses. Unused with
    "files"."""
    certificate: str = "/var/lib/bedplate/front/certificate.pem"
    """With "files": the certificate and its chain, PEM, the machine's own first."""
    private_key: str = "/var/lib/bedplate/front/private-key.pem"
    """With "files": the private key, PEM, without a passphrase."""
    client_ca: str = ""
    """Certificates of the CAs whose clients may connect to `client_port`, PEM. Empty: that port is closed."""
    client_port: int = 8443
    """Port, 1024 or higher, on which each client must show a certificate of `client_ca`, whose common name is the name of an
    entry made by `bedplate key add --certificate`. Such a client needs no other key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsConfig:
    """[front.limits]: bounds for each key that has none of its own."""

    requests_per_minute: int = 600
    """Requests that a key may send in a minute; the next one gets 429. 0: no limit."""
    concurrency: int = 32
    """Requests of a key that may be waiting or running at once; the next one gets 429. 0: no limit."""
    max_tokens: int = 0
    """The largest answer, in tokens, that a request may ask for; one that asks for more, or does not say, gets 400. 0: no
    limit."""
    refusals_per_minute: int = 20
    """Requests without a valid key that an address may send in a minute and get 401; the next ones get 429."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontConfig:
    """[front]: where the front end listens, and for whom."""

    addresses: tuple[str, ...] = ("*",)
    """IP addresses to listen on; "*" stands for all of IPv4 and IPv6. Empty: only the machine's own Unix socket. Until the
    machine has an address that is named here, the front end does not start, and tries again."""
    port: int = DEFAULT_PORT
    """TCP port of the API, 1024 or higher."""
    insecure: bool = False
    """true: plain HTTP instead of TLS, on every address. false: plain HTTP is served only if all addresses are loopback."""
    require_key: bool = True
    """false: everybody who can connect is answered. `bedplate status` shows it."""
    cors_origins: tuple[str, ...] = ()
    """Origins of web pages whose scripts may call the API, such as "https://chat.example.org"."""
    access_log: bool = True
    """Log one line of JSON for each request, without any text of the client."""
    tls: TlsConfig = field(default_factory=TlsConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineConfig:
    """The whole of machine.toml."""

    schema: int = 1
    """Version of this file's form; 1."""
    sequence: int = 0
    """Number that rises with each signed configuration of the machine; an older one is refused. 0: not to be signed."""
    name: str = ""
    """Host name. Empty: that of the image."""
    network: NetworkConfig = field(default_factory=NetworkConfig)
    time: TimeConfig = field(default_factory=TimeConfig)
    administrator: tuple[AdministratorConfig, ...] = ()
    """A table for each person who may manage the machine, below."""
    serve: ServeConfig = field(default_factory=ServeConfig)
    front: FrontConfig = field(default_factory=FrontConfig)
    tuning: TuningConfig = field(default_factory=TuningConfig)
    update: UpdateConfig = field(default_factory=UpdateConfig)
    log: LogConfig = field(default_factory=LogConfig)
    proxy: ProxyConfig = field(default_factory=ProxyConfig)
    mirror: MirrorConfig = field(default_factory=MirrorConfig)
    recovery: RecoveryConfig = field(default_factory=RecoveryConfig)

    def engine_of(self, name: str) -> str:
        """The engine that was chosen for a model; "" where none was."""
        return next((model.engine for model in self.serve.model if model.name == name), "")


CLOSED = MachineConfig(front=FrontConfig(addresses=()))
"""What holds when the file that counts is damaged: nobody outside the machine is answered."""
