"""Identifiers of a machine and its people, replaced so that a recording can be given away and still reads the same.

The same input gets the same placeholder, of the same form, so that a file still parses and two files still agree. What is
replaced: serial numbers and asset tags, MAC and InfiniBand addresses, UUIDs and machine ids, host names, IP addresses, user
names and home directories, secrets. Numbers are given in the order of first sight; the same recording gives the same bytes.
What is not an identifier of anybody stays: loopback and wildcard addresses, names that are words of the field.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from bedplate.host.root.root import Root
from bedplate.host.secrets.secret_shapes import hide_private_keys
from bedplate.host.secrets.secrets import hide_secrets_in
from bedplate.model.lazy_pattern import LazyPattern

_HEX = "0-9A-Fa-f"
# Nothing is asked of what stands around it: "pod" of a kubelet's cgroup ends with a digit of a UUID.
_UUID = re.compile(rf"[{_HEX}]{{8}}([-_])[{_HEX}]{{4}}\1[{_HEX}]{{4}}\1[{_HEX}]{{4}}\1[{_HEX}]{{12}}")
_LONG_HEX = re.compile(r"(?<![0-9A-Za-z])(?:[0-9a-f]{64}|[0-9A-Fa-f]{32})(?![0-9A-Za-z])")
_LVM = re.compile(r"(?<=LVM-)[A-Za-z0-9]{64}|\b[A-Za-z0-9]{6}(?:-[A-Za-z0-9]{4}){5}-[A-Za-z0-9]{6}\b")
_PAIRS = re.compile(rf"(?<![{_HEX}:-])[{_HEX}]{{2}}([:-])(?:[{_HEX}]{{2}}\1){{4,18}}[{_HEX}]{{2}}(?![{_HEX}:-])")
_IN_NAME = re.compile(r"(?<=\benx)[0-9a-f]{12}\b|(?<=\bwlx)[0-9a-f]{12}\b")
_GUID = re.compile(r"(?<![0-9a-fA-F:])[0-9a-fA-F]{4}(?::[0-9a-fA-F]{4}){3}(?![0-9a-fA-F:])")
# Not in "5.15.153.1-microsoft-standard" or "vmlinuz-5.15.153.1".
_IPV4 = re.compile(
    r"(?<![\w.])(?<![A-Za-z]-)(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?!\w|\.\d|-[A-Za-z])"
)
_PRIVATE = LazyPattern(r"10\.|192\.168\.|172\.(?:1[6-9]|2\d|3[01])\.")
_CLOUD_HOST = re.compile(r"\bip-\d{1,3}(?:-\d{1,3}){3}\b")
_IPV6 = re.compile(rf"(?<![\w:.])(?=[{_HEX}:]*:[{_HEX}]*:)[{_HEX}:]{{2,39}}(?![\w:.])")
_HOME = re.compile(r"(?P<where>/(?:home|Users|var/home)/)(?P<name>[^/\s:,\"'\0]+)")
_AT = re.compile(r"\((?P<who>[\w.+-]+@[\w.-]+)\)")
_MAIL = re.compile(
    r"(?<![\w.+-])[\w.+-]+@(?:[\w-]+\.)+(?!service|slice|scope|socket|mount|timer|target|device|swap|path)[A-Za-z]{2,}\b"
)
_URL_HOST = re.compile(r"(?P<mark>://(?:\*\*\*@)?|//\*\*\*@)(?P<host>[A-Za-z0-9_][\w.-]*)")
_DOMAIN = re.compile(
    r"(?<![\w.@/-])(?:[A-Za-z0-9_](?:[\w-]{0,61}\w)?\.)+"
    r"(?:com|net|org|io|ai|dev|cloud|corp|internal|intranet|local|lan|home|edu|gov|mil|int|info|biz|co|uk|de|fr|nl|ch|at|eu|it|es|se"
    r"|no|fi|dk|pl|cz|jp|cn|kr|in|au|ca|us|br|ru|tw|sg|hk|test|example)\b(?![\w-]|\.\w)"
)
_SERIAL = re.compile(
    r"(?P<key>\b(?:\w+[ _-]?)?serial(?:[ _-]?(?:number|no|num))?\"?\s{0,40}[:=]\s{0,4}(?:\{\s*\"value\"\s*:\s*)?\"?)"
    r"(?P<value>[^\s\",}\]]{4,})",
    re.IGNORECASE,
)
_NO_SERIAL = {"n/a", "none", "[n/a]", "unknown", "null", "true", "false"}

_RUN = LazyPattern(r"[a-z0-9]+", re.IGNORECASE | re.ASCII)
_ALNUM = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_SAME_START_MOST = 256  # names that begin with one word: "user-1", "user-2"
_ID = LazyPattern(r"[0-9]{1,10}")

# Files that are an identifier from the first to the last byte.
_WHOLE = LazyPattern(
    r"(?:serial|serial_number|(?:board|chassis|product)_serial|(?:board|chassis|product)_asset_tag|product_uuid|product_sku"
    r"|unique_id|wwid|wwn|uuid|nguid|eui|subsysnqn|hostnqn|hostid|machine-id|boot_id|hostname|domainname|sas_address|node_name"
    r"|port_name|phys_port_id|phys_switch_id|board_id|vpd\w*)"
)
# Words of the field, of distributions and of engines: a host or user of such a name is told by it no more than by "server".
_COMMON = {
    *(
        "root",
        "localhost",
        "localdomain",
        "debian",
        "ubuntu",
        "fedora",
        "rocky",
        "centos",
        "rhel",
        "alpine",
        "arch",
        "nixos",
        "linux",
    ),
    *(
        "vllm",
        "sglang",
        "ollama",
        "triton",
        "llama",
        "llama-server",
        "tgi",
        "bedplate",
        "nvidia",
        "amd",
        "intel",
        "docker",
        "podman",
    ),
    *(
        "kubernetes",
        "kubelet",
        "containerd",
        "server",
        "host",
        "node",
        "gpu",
        "cpu",
        "test",
        "user",
        "admin",
        "nobody",
        "ec2-user",
    ),
    *(
        "system",
        "systemd",
        "inference",
        "model",
        "models",
        "python",
        "python3",
        "proc",
        "sys",
        "dev",
        "run",
        "usr",
        "etc",
        "var",
    ),
    *(
        "none",
        "default",
        "kernel",
        "kvm",
        "qemu",
        "home",
        "data",
        "app",
        "opt",
        "mnt",
        "vm",
        "main",
        "worker",
        "master",
        "guest",
    ),
}
_COMMON_FORM = LazyPattern(
    r"(?:node|cpu|gpu|eth|nvme|sd|vd|nvidia|mlx5_|policy|index|state|card|renderD|slot|pci|queue|irq)[0-9]*"
)


@dataclass(slots=True)
class Redactor:
    """Replaces identifiers; remembers what it gave for which."""

    hosts: tuple[str, ...] = ()
    """This machine's names, longest first."""
    users: tuple[str, ...] = ()
    kinds: dict[str, dict[str, str]] = field(default_factory=dict)
    """Placeholder by identifier, by kind of identifier."""
    cache: dict[str, str] = field(default_factory=dict)
    given: set[str] = field(default_factory=set)
    """Placeholders, to know one that is seen again."""
    indexes: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    def text(self, text: str, *, addresses: bool = True, parts: re.Pattern[str] | None = None) -> str:
        """Any text. addresses=False: numbers with three dots are versions here, except private addresses.

        parts: what a secret may fill; by default it goes on to the end of its line, and takes along what stands there.
        """
        if parts is not None:
            text = parts.sub(lambda found: hide_secrets_in(found[0]), hide_private_keys(text))
            return self._identifiers(text, addresses=addresses)
        key = text if addresses else "\0" + text
        if len(text) < 512 and key in self.cache:
            return self.cache[key]
        clean = self._text(text, addresses=addresses)
        if len(text) < 512:
            self.cache[key] = clean
        return clean

    def path(self, path: str) -> str:
        """A path on the machine, redacted as text is; but a number with three dots may be a version there, and stays."""
        return self.text(path, addresses=False)

    def words(self, text: str) -> str:
        """Text of people, a command line or a table of mounts: names of other hosts too."""
        text = _URL_HOST.sub(lambda found: found["mark"] + self.host(found["host"]), self.text(text))
        return _DOMAIN.sub(lambda found: self.host(found[0]), text)

    def host(self, name: str) -> str:
        """A host name; localhost, wildcards, addresses and placeholders stay."""
        if name.lower() in _COMMON or name in ("*", "0", "") or _IPV4.fullmatch(name) or re.fullmatch(r"host-\d+", name):
            return name
        return self._place("host", name, lambda number: f"host-{number}")

    def user(self, name: str) -> str:
        """The placeholder of an account, "user-1", the same each time; "root" and other common names stay as they are."""
        if name.lower() in _COMMON or re.fullmatch(r"user-\d+", name):
            return name
        return self._place("user", name, lambda number: f"user-{number}")

    def serial(self, value: str) -> str:
        """As many characters of the same kind as an all-hexadecimal one has: readers may parse it."""
        plain = value.lower().removeprefix("0x")
        if re.fullmatch(r"[0-9a-f]{8,32}", plain):
            prefix = value[: len(value) - len(plain)]
            return self._place("serial", value, lambda number: prefix + f"{number:0{len(plain)}x}")
        return self._place("serial", value, lambda number: f"SERIAL-{number}")

    def whole(self, path: str, text: str) -> str | None:
        """The content of a file that is an identifier; None when the file is none."""
        name = path.rpartition("/")[2]
        if not _WHOLE.fullmatch(name):
            return None
        if name.endswith(("hostname", "domainname")):
            return self.host(text.strip()) if text.strip() != "(none)" else text
        stripped = text.strip()
        if not stripped or stripped.lower() in _NO_SERIAL or not stripped.strip("0-: "):
            return text
        clean = self.text(stripped)
        return clean if clean != stripped else self.serial(stripped)

    def counts(self) -> dict[str, int]:
        """How many different identifiers of each kind were replaced."""
        return {kind: len(table) for kind, table in sorted(self.kinds.items())}

    def _text(self, text: str, *, addresses: bool) -> str:
        # A key goes over many lines; all else ends with its line, so that no line takes those behind it along.
        text = "\n".join(hide_secrets_in(line) for line in hide_private_keys(text).split("\n"))
        return self._identifiers(text, addresses=addresses)

    def _identifiers(self, text: str, *, addresses: bool) -> str:
        text = _UUID.sub(lambda found: self._uuid(found[0], found[1]), text)
        text = _LONG_HEX.sub(lambda found: self._hex("id", found[0]), text)
        text = _LVM.sub(
            lambda found: self._place("uuid", found[0], lambda number: f"LVM{number:0{len(found[0]) - 3}d}"), text
        )
        text = _PAIRS.sub(lambda found: self._pairs(found[0], found[1]), text)
        text = _IN_NAME.sub(lambda found: self._pairs(":".join(re.findall("..", found[0])), ":").replace(":", ""), text)
        text = _GUID.sub(lambda found: self._guid(found[0]), text)
        text = _SERIAL.sub(self._keyed_serial, text)
        text = _IPV6.sub(lambda found: self._ipv6(found[0]), text)
        text = _IPV4.sub(lambda found: self._ipv4(found[0]) if addresses or _PRIVATE.match(found[0]) else found[0], text)
        text = _CLOUD_HOST.sub(lambda found: self.host(found[0]), text)
        text = _AT.sub("(user@host)", text)
        text = _MAIL.sub(lambda found: self._place("mail", found[0], lambda number: f"mail-{number}@example"), text)
        text = _HOME.sub(lambda found: found["where"] + self.user(found["name"]), text)
        text = self._named(text, self._index("host", self.hosts), self.host)
        return self._named(text, self._index("user", self.users), self.user)

    def _index(self, kind: str, names: tuple[str, ...]) -> dict[str, list[str]]:
        """The names by their first run of letters and digits, small, longest first."""
        index = self.indexes.get(kind)
        if index is None:
            index = self.indexes[kind] = {}
            for name in names:
                start = _RUN.search(name.lower())
                if start is not None and len(rows := index.setdefault(start[0], [])) < _SAME_START_MOST:
                    rows.append(name)
        return index

    def _named(self, text: str, index: dict[str, list[str]], give: Callable[[str], str]) -> str:
        """The text without the names of an index: each run of letters and digits is looked up once, however many names."""
        small = text.lower()
        if not index or len(small) != len(text):  # a letter whose small form is two letters: places would not agree
            small = text
        parts: list[str] = []
        place = 0
        for run in _RUN.finditer(small) if index else ():
            for name in index.get(run[0], ()):
                start = run.start() - name.lower().index(run[0])
                end = start + len(name)
                if start < place or small[start:end] != name.lower() or small[end : end + 1] in _ALNUM:
                    continue
                parts += [text[place:start], give(name)]
                place = end
                break
        return "".join([*parts, text[place:]]) if parts else text

    def _place(self, kind: str, value: str, make: Callable[[int], str]) -> str:
        table = self.kinds.setdefault(kind, {})
        key = value.lower()
        if key in table:
            return table[key]
        if value in self.given:
            return value
        table[key] = make(len(table) + 1)
        self.given.add(table[key])
        return table[key]

    def _uuid(self, value: str, mark: str) -> str:
        plain = value.replace("_", "-").lower()
        if not plain.strip("0-"):
            return value
        return self._place("uuid", plain, lambda number: f"00000000-0000-4000-8000-{number:012x}").replace("-", mark)

    def _hex(self, kind: str, value: str) -> str:
        if not value.strip("0") or not value.strip("f"):
            return value
        return self._place(kind, value, lambda number: f"{number:0{len(value)}x}")

    def _pairs(self, value: str, mark: str) -> str:
        plain = value.replace("-", ":").lower()
        if not plain.strip("0:") or not plain.strip("f:"):
            return value
        count = (len(plain) + 1) // 3
        # 02: a locally administered address, which no maker gives out.
        return self._place(
            "mac", plain, lambda number: ":".join(["02", *re.findall("..", f"{number:0{2 * count - 2}x}")])
        ).replace(":", mark)

    def _guid(self, value: str) -> str:
        if not value.strip("0:"):
            return value
        return self._place("guid", value, lambda number: ":".join(re.findall("....", f"02{number:014x}")))

    def _ipv4(self, value: str) -> str:
        if value.startswith(("127.", "0.", "255.", "169.254.169.254")):
            return value
        # The three networks for documentation (RFC 5737), then that for benchmarks (RFC 2544).
        nets = ("192.0.2", "198.51.100", "203.0.113")

        def make(number: int) -> str:
            net, host = divmod(number - 1, 254)
            return f"{nets[net]}.{host + 1}" if net < len(nets) else f"198.18.{(number >> 8) & 255}.{number & 255}"

        return self._place("ip", value, make)

    def _ipv6(self, value: str) -> str:
        try:
            address = ipaddress.IPv6Address(value)
        except ValueError:
            return value
        if address.is_loopback or address.is_unspecified:
            return value
        return self._place("ip6", str(address), lambda number: f"2001:db8::{number:x}")

    def _keyed_serial(self, found: re.Match[str]) -> str:
        if found["value"].lower() in _NO_SERIAL or not found["value"].strip("0"):
            return found[0]
        return found["key"] + self.serial(found["value"])


def make_redactor(root: Root) -> Redactor:
    """A redactor that knows the names of this machine and of its people; from a recording, what that says."""
    hosts = {
        root.read(where).value or ""
        for where in ("/proc/sys/kernel/hostname", "/etc/hostname", "/proc/sys/kernel/domainname")
    }
    hosts |= {name.split(".", 1)[0] for name in hosts} | {name.partition(".")[2] for name in hosts}
    users = set(_people(root.read("/etc/passwd", limit=4 << 20).value or "")) | set(root.listdir("/home"))
    return Redactor(hosts=_telling(hosts), users=_telling(users))


def _people(passwd: str) -> Iterable[str]:
    """Names of accounts of people, and the last part of their home directories; passwd(5)."""
    for line in passwd.splitlines():
        fields = line.split(":")
        if len(fields) >= 6 and _ID.fullmatch(fields[2]) and 1000 <= int(fields[2]) < 65534:
            yield fields[0]
            yield fields[5].rstrip("/").rpartition("/")[2]


def _telling(names: Iterable[str]) -> tuple[str, ...]:
    """Names that tell something, longest first, so that the short one does not cut the long one."""
    kept = {
        name
        for name in (raw.strip() for raw in names)
        if len(name) >= 3 and name != "(none)" and name.lower() not in _COMMON and not _COMMON_FORM.fullmatch(name)
    }
    return tuple(sorted(kept, key=lambda name: (-len(name), name)))
