"""What of a file is kept in a recording: that which readers use. The rest may say things about people and is left out.

A reader answers the same on the kept part as on the whole; a test holds each of these rules to that.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from bedplate.errors import ReadError
from bedplate.host.kernel.engines import DEVICE_FILE, find_engine, parse_numa_maps, parse_policy
from bedplate.host.kernel.kernel import GPU_MODULE_LINE, parse_cmdline
from bedplate.host.kernel.mounts import escape_mount, parse_mountinfo, unescape_mount
from bedplate.host.kernel.processes import parse_argv
from bedplate.host.record.kernel_log import redact_message
from bedplate.host.record.redact import Redactor
from bedplate.host.secrets.secret_names import HIDDEN, hide_value, is_secret_name
from bedplate.host.secrets.secret_shapes import hide_private_keys
from bedplate.host.secrets.secrets import hide_secrets, hide_secrets_in
from bedplate.host.stack.dkms import shorten_log
from bedplate.host.stack.document import parse_deep, render_deep
from bedplate.host.stack.dpkg import shorten_status
from bedplate.host.stack.driver_files import shorten_cdi
from bedplate.host.system.apt_sources import SWITCHED_OFF
from bedplate.host.system.osinfo import CO_OWNERS, DMI_STARTS
from bedplate.model.facts.system import Mount
from bedplate.model.lazy_pattern import LazyPattern

_STATUS_LINES = ("Name:", "State:", "VmRSS:", "VmSwap:", "Threads:", "Cpus_allowed_list:", "Mems_allowed_list:")
_NETWORK_KINDS = re.compile(
    r"(nfs|nfs4|cifs|smb3|smbfs|davfs|afs|ceph|glusterfs|lustre|beegfs|gpfs|wekafs|9p|virtiofs|fuse\..*)"
)
# Options of a mount of the network that name people, hosts or secrets.
_MOUNT_OPTIONS = LazyPattern(
    r"(user|username|uname|password|pass|domain|credentials|secret|secretfile|name|addr|clientaddr|mountaddr|ip|unc|srcaddr|fsid|mon_addr)=.*"
)
# What looks like a secret takes no other option and no other parameter along.
_PARTS_OF_MOUNTS = re.compile(r"[^\s,]++")
# The kernel knows double quotes only; systemd and others that read its line, single quotes and backslashes too.
_PARAMETERS = re.compile(r"(?:[^\s\"'\\]++|\\.|\"[^\"]*+\"|'[^']*+'|['\\])++|\"")
# Parameters that set up the network, name other machines, or carry a whole configuration.
_PLACES = re.compile(
    r"(?P<name>ip|nfsroot|netroot|nameserver|hostname|systemd\.hostname|iscsi_\w+|rd\.iscsi\.\w+|(?:rd\.)?nvmf\.\w+|ks|inst\.\w+|BOOTIF"
    r"|ds|cloud-init|cloud-config-url|autoinstall|(?:preseed|netcfg|passwd)/[\w-]+"
    r"|(?:ignition|coreos\.inst|flatcar|talos|k3os|harvester)\.[\w.-]+)=.*",
    re.DOTALL,
)
_SET_VARIABLE = re.compile(r"(?P<head>[\"']?(?:rd\.)?systemd\.setenv=)(?P<name>\w+)=.*", re.DOTALL)
_CLOUD_CONFIG = re.compile(r"(?<!\S)cc:.*?(?:end_cc\S*|$)", re.DOTALL)  # of cloud-init, whose YAML has blanks
_LAYERS = re.compile(r"(lowerdir\+?|datadir\+?|upperdir|workdir)=.*")
# Variables of a unit that say how an engine runs; the values of all others are left out.
_ENVIRONMENT = LazyPattern(
    r"(?:NCCL|RCCL|CUDA|HIP|ROCR|HSA|NVIDIA|OMP|GOMP|KMP|MKL|OPENBLAS|MALLOC|GLIBC|TCMALLOC|LD_PRELOAD|TORCH|PYTORCH|VLLM|SGLANG|SGL"
    r"|LLAMA|GGML|OLLAMA|TRTLLM|TOKENIZERS|UCX|GLOO|TP)_?[A-Z0-9_]*"
)
_VARIABLE_NAME = LazyPattern(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_DSN = 0x0003  # extended capability: Device Serial Number; PCI Express Base Specification 6.0, 7.9.3
_EXTENDED = 0x100


# Of apt_preferences(5): the host of a source, or "" for files of this machine.
_ORIGIN = LazyPattern(r"(?P<head>Pin:[ \t]{0,40}origin[ \t]{1,40}\"?)(?P<host>[\w.-]{1,253})(?P<tail>\"?[ \t]{0,40})")


def trim(path: str, data: bytes, redactor: Redactor) -> bytes:
    """The bytes of a file as they are recorded, with identifiers replaced."""
    for start, pattern, rule in _RULES:
        if path.startswith(start) and pattern.fullmatch(path):
            return rule(path, data, redactor)
    text = data.decode("utf-8", errors="surrogateescape")
    whole = redactor.whole(path, text)
    clean = redactor.text(text, addresses=not path.endswith(("version", "osrelease"))) if whole is None else whole
    return clean.encode("utf-8", errors="surrogateescape")


def trim_link(path: str, target: str, redactor: Redactor) -> str:
    """Target of a link; of an open file only that of an accelerator."""
    if re.fullmatch(r"/proc/[^/]+/fd/[^/]+", path):
        return target if DEVICE_FILE.fullmatch(target) else "-"
    return redactor.path(target)


def is_kept_process(comm: str, argv: bytes) -> bool:
    """Whether readers say anything of a process: an engine, or one that sets kernel knobs too."""
    return comm.strip() in CO_OWNERS or find_engine(parse_argv(argv)) is not None


def _cmdline(path: str, data: bytes, redactor: Redactor) -> bytes:
    argv = parse_argv(data)
    if find_engine(argv) is None:
        return b""
    return "\0".join([*redact_argv(argv, redactor), ""]).encode("utf-8", errors="surrogateescape")


def redact_argv(argv: tuple[str, ...], redactor: Redactor) -> tuple[str, ...]:
    """A command line without secrets, people, hosts and serial numbers; as many words as before."""
    words = [redactor.words(word) for word in hide_secrets(argv)]
    for index, word in enumerate(words[:-1]):
        if _SERIAL_OPTION.fullmatch(word):
            words[index + 1] = redactor.serial(words[index + 1])
    return tuple(_named_hosts(words, redactor))


_SERIAL_OPTION = LazyPattern(r"--?(?:[\w-]*-)?serial(?:-number|-no)?", re.IGNORECASE)
_HOST_OPTION = LazyPattern(r"--?(?:[\w-]*-)?(?:host|hostname|addr|address|addrs|ip|rpc|url|endpoint|server|peers|nodes)")
_HOST_PORT = LazyPattern(r"(?P<host>[A-Za-z0-9_][\w.-]*)(?P<port>:[0-9]{1,5})?")


def _named_hosts(words: list[str], redactor: Redactor) -> list[str]:
    """Hosts that options name: --dist-init-addr node7:5000 -> host-1:5000."""

    def replaced(value: str) -> str:
        parts = (_HOST_PORT.fullmatch(part) for part in value.split(","))
        kept = [
            part if found is None else redactor.host(found["host"]) + (found["port"] or "")
            for part, found in zip(value.split(","), parts, strict=True)
        ]
        return ",".join(kept)

    shown: list[str] = []
    for word in words:
        name, equals, value = word.partition("=")
        if equals and _HOST_OPTION.fullmatch(name):
            shown.append(f"{name}={replaced(value)}")
        else:
            shown.append(replaced(word) if shown and _HOST_OPTION.fullmatch(shown[-1]) else word)
    return shown


def _comm(path: str, data: bytes, redactor: Redactor) -> bytes:
    """Names that are looked for; others say what else runs here."""
    name = data.decode("utf-8", errors="replace").strip()
    kept = name in CO_OWNERS or path in ("/proc/1/comm", "/proc/2/comm")
    return (redactor.text(name) if kept else "-").encode() + b"\n"


def _environ(path: str, data: bytes, redactor: Redactor) -> bytes:
    found = re.search(rb"(?:^|\0)(container=[A-Za-z0-9_-]{1,40})", data)
    return found[1] + b"\0" if found is not None else b""


def _status(path: str, data: bytes, redactor: Redactor) -> bytes:
    text = data.decode("utf-8", errors="replace")
    lines = [line for line in text.splitlines() if line.startswith(_STATUS_LINES)]
    return redactor.text("".join(f"{line}\n" for line in lines)).encode()


def _stat(path: str, data: bytes, redactor: Redactor) -> bytes:
    """Only the policy, field 41: the others are counters, and addresses of the process's memory."""
    fields = data.decode("utf-8", errors="replace").rpartition(")")[2].split()
    if parse_policy(") " + " ".join(fields)) == "unknown":
        return b""
    return f"0 (-) S {' '.join(['0'] * 37)} {fields[38]}\n".encode()


def _numa_maps(path: str, data: bytes, redactor: Redactor) -> bytes:
    """The sums of the nodes: the lines name every file that is mapped."""
    rows = parse_numa_maps(data.decode("utf-8", errors="replace"))
    return "".join(f"0 default N{node}={size // 4096} kernelpagesize_kB=4\n" for node, size in rows).encode()


def _gpu_modules(path: str, data: bytes, redactor: Redactor) -> bytes:
    text = data.decode("utf-8", errors="replace")
    return "".join(
        f"{found[0].split(':', 1)[0]}{':' if ':' in found[0] else ''}\n" for found in GPU_MODULE_LINE.finditer(text)
    ).encode()


def _dpkg_status(path: str, data: bytes, redactor: Redactor) -> bytes:
    """The packages of the stack and those that dpkg has not finished, with the fields that are read."""
    return shorten_status(data.decode("utf-8", errors="replace")).encode()


def _apt_lists(path: str, data: bytes, redactor: Redactor) -> bytes:
    """Sources and pins without comments and keys; names of hosts are replaced in both alike, so that they still agree."""
    kept: list[str] = []
    is_key = False
    for line in data.decode("utf-8", errors="replace").splitlines():
        is_key = line.startswith("Signed-By:") or (is_key and line[:1] in (" ", "\t"))
        if not is_key and (not line.startswith("#") or SWITCHED_OFF in line):
            origin = _ORIGIN.fullmatch(line)
            kept.append(
                redactor.words(line)
                if origin is None
                else f"{origin['head']}{redactor.host(origin['host'])}{origin['tail']}"
            )
    return "".join(f"{line}\n" for line in kept).encode()


def _cdi(path: str, data: bytes, redactor: Redactor) -> bytes:
    return redactor.text(shorten_cdi(data.decode("utf-8", errors="replace")), addresses=False).encode()


def _make_log(path: str, data: bytes, redactor: Redactor) -> bytes:
    return redactor.text(shorten_log(data.decode("utf-8", errors="replace")), addresses=False).encode()


def _stack_document(path: str, data: bytes, redactor: Redactor) -> bytes:
    try:
        return render_deep(parse_deep(data.decode("utf-8", errors="replace")), redactor.path).encode()
    except ReadError:
        return b""  # of a recording that somebody made: nothing of it is taken along


def _config_gz(path: str, data: bytes, redactor: Redactor) -> bytes:
    machine = zlib.decompressobj(wbits=31)
    try:
        plain = machine.decompress(data, 4 << 20)
    except zlib.error:
        return b""
    packer = zlib.compressobj(9, wbits=31)
    return packer.compress(_config("", plain, redactor)) + packer.flush() if machine.eof else b""


def _config(path: str, data: bytes, redactor: Redactor) -> bytes:
    """Options with a short value; the long texts are paths of keys, host names and the compiler's own words."""
    lines = (line for line in data.decode("utf-8", errors="replace").splitlines() if line.startswith("CONFIG_"))
    return "".join(f"{line}\n" for line in lines if '"' not in line).encode()


def _mounts(path: str, data: bytes, redactor: Redactor) -> bytes:
    lines = redactor.text(data.decode("utf-8", errors="surrogateescape"), parts=_PARTS_OF_MOUNTS).splitlines()
    return "".join(f"{_mount(line, redactor)}\n" for line in lines).encode("utf-8", errors="surrogateescape")


def _mount(line: str, redactor: Redactor) -> str:
    """One line of mountinfo or of mounts: the source and options of a network mount name hosts, shares and people."""
    words = line.split(" ")
    dash = words.index("-", 6) if "-" in words[6:] else -1
    kind, source = (dash + 1, dash + 2) if dash > 0 else (2, 0)
    if len(words) <= max(kind, source):
        return ""
    for index, word in enumerate(words):
        left_out = _MOUNT_OPTIONS if _NETWORK_KINDS.fullmatch(words[kind]) else _LAYERS
        if "=" in word:
            words[index] = ",".join(part for part in word.split(",") if not left_out.fullmatch(part)) or "-"
    if _NETWORK_KINDS.fullmatch(words[kind]) and re.search(r"[:@]|^//", words[source]):
        # As one identifier: "filer.example.org:/export/people" tells by both of its parts.
        words[source] = redactor.host(words[source])
    return " ".join(
        ",".join(escape_mount(redactor.words(unescape_mount(option))) for option in word.split(",")) for word in words
    )


def redact_mount(mount: Mount, redactor: Redactor) -> Mount:
    """A mount as a recording has it; the place stays where it is, but for people and secrets in its name."""
    point, source = escape_mount(mount.point), escape_mount(mount.source)
    line = f"1 1 0:1 / {point} {','.join(mount.options)} - {mount.kind} {source} -"
    row = parse_mountinfo(_mount(redactor.text(line, parts=_PARTS_OF_MOUNTS), redactor))
    if row is None:
        return replace(mount, point=redactor.words(mount.point), source=HIDDEN, options=())
    return replace(row.mount, options=tuple(option for option in row.mount.options if option not in ("", "-")))


def _kernel_cmdline(path: str, data: bytes, redactor: Redactor) -> bytes:
    words = parse_cmdline(data.decode("utf-8", errors="surrogateescape"))
    return (" ".join(redact_parameters(words, redactor)) + "\n").encode("utf-8", errors="surrogateescape")


def redact_parameters(words: Sequence[str], redactor: Redactor) -> tuple[str, ...]:
    """Words of the kernel's command line; values that set up the network or name other machines are left out.

    What stands behind "--" is the command line of init.
    """
    of_kernel = words[: words.index("--")] if "--" in words else words
    line = _CLOUD_CONFIG.sub("cc:-", " ".join(of_kernel))
    clean = [_parameter(word, redactor) for word in parse_cmdline(redactor.text(line, parts=_PARAMETERS))]
    for index, word in enumerate(clean[1:], 1):  # an option that init gets, though no "--" stands before it
        if clean[index - 1].startswith("--"):
            clean[index] = hide_secrets((clean[index - 1], word))[1]
    return (*clean, *redact_argv(tuple(words[len(of_kernel) :]), redactor))


def _parameter(word: str, redactor: Redactor) -> str:
    if (place := _PLACES.fullmatch(word)) is not None:
        return f"{place['name']}=-"
    variable = _SET_VARIABLE.fullmatch(word)
    if variable is not None and _ENVIRONMENT.fullmatch(variable["name"]) is None:
        return f"{variable['head']}{variable['name']}={HIDDEN}"
    return redactor.words(word)


def _conf(path: str, data: bytes, redactor: Redactor) -> bytes:
    """A file of settings without its comments, which may hold anything.

    A line that ends with a backslash goes on in the next one, and so may a secret: what differs when the lines are taken
    together is written as one line; else they stay as they were, since readers look at lines.
    """
    text = hide_private_keys(data.decode("utf-8", errors="surrogateescape"))
    rule = _unit_line if "/systemd/" in path else _limit_line if "/security/" in path else _plain_line
    kept: list[str] = []
    for lines in _logical_lines(text):
        apart = [rule(line, redactor) for line in lines]
        joined = rule(" ".join(lines), redactor)
        kept.append(joined if " ".join(apart) != joined else "\\\n".join(apart))
    return "".join(f"{line}\n" for line in kept).encode("utf-8", errors="surrogateescape")


def _logical_lines(text: str) -> Iterator[list[str]]:
    """The lines that are one setting, without the backslashes that join them: systemd.syntax(7), modprobe.d(5), sh(1).

    Comments between them are left out, as systemd leaves them out; an empty line ends the setting.
    """
    lines: list[str] = []
    for line in text.splitlines():
        if line.lstrip().startswith(("#", ";")):
            continue
        is_open = line.endswith("\\")
        if line.strip():
            lines.append(line[:-1] if is_open else line)
        if lines and not is_open:
            yield lines
            lines = []
    if lines:
        yield lines


# "password root x" of a boot loader: the first word of a command is the name.
_NAMED_LINE = re.compile(r"(?:^|;)[ \t]*+(?P<name>[A-Za-z_][\w.-]*+)[ \t]++(?=[^\s=:])")


def _plain_line(line: str, redactor: Redactor) -> str:
    named = next((found for found in _NAMED_LINE.finditer(line) if is_secret_name(found["name"])), None)
    return redactor.words(line if named is None else f"{line[: named.end()]}{HIDDEN}")


def _limit_line(line: str, redactor: Redactor) -> str:
    """limits.conf(5): the first word names a user or a group; a comment may stand behind the others."""
    words = redactor.text(line.partition("#")[0]).split()
    if words and words[0] not in ("*", "root"):
        mark = words[0][0] if words[0][0] in "@%" else ""
        words[0] = mark + redactor.user(words[0][len(mark) :])
    return redactor.words(" ".join(words))


def _unit_line(line: str, redactor: Redactor) -> str:
    key, equals, value = line.partition("=")
    match key.strip() if equals else "":
        case "Environment" | "DefaultEnvironment" | "ManagerEnvironment" | "ConditionEnvironment" | "AssertEnvironment":
            return f"{key}={' '.join(_variable(word, redactor) for word in _unit_words(value))}"
        case "SetCredential" | "SetCredentialEncrypted" | "StandardInputText" | "StandardInputData":
            return f"{key}=***"
        case name if name.startswith("Exec"):
            return f"{key}={' '.join(_quoted(word) for word in _command(value, redactor))}"
        case "User" | "Group":
            return f"{key}={redactor.user(value.strip())}"
        case "Description":
            return f"{key}=-"
    return redactor.words(line)


# A word as systemd reads it, with its quotes; a quote that nothing closes takes the rest of the line.
_UNIT_WORD = LazyPattern(
    r"(?:[^\s\"'\\]++|\\.|\"(?:[^\"\\]++|\\.)*+\"|'(?:[^'\\]++|\\.)*+')++(?:[\"'\\].*)?|[\"'\\].*", re.DOTALL
)


def _unit_words(value: str) -> list[str]:
    """Words of a value of a unit: 'A="x y" B=z' -> ['A="x y"', 'B=z']. Source: systemd.syntax(7), Quoting."""
    return [found[0] for found in _UNIT_WORD.finditer(value)]


# A part of such a word: in quotes, or not.
_UNIT_PART = LazyPattern(
    r"\"(?P<double>(?:[^\"\\]|\\.)*)\"?|'(?P<single>(?:[^'\\]|\\.)*)'?|(?P<bare>[^\"'\\]+|\\.)", re.DOTALL
)
_UNIT_ESCAPE = LazyPattern(r"\\(?:x(?P<hex>[0-7][0-9A-Fa-f])|(?P<octal>[01][0-7]{2})|(?P<blank>[stn])|(?P<itself>[\\\"' ]))")


def _unquoted(word: str) -> str:
    """What systemd makes of a word: '"A=\\"x\\x20y\\""' -> 'A="x y"'. Quotes within quotes stay."""
    parts = (found["double"] or found["single"] or found["bare"] or "" for found in _UNIT_PART.finditer(word))
    return _UNIT_ESCAPE.sub(_unescape, "".join(parts))


def _unescape(found: re.Match[str]) -> str:
    if found["hex"] is not None or found["octal"] is not None:
        return chr(int(found["hex"] or found["octal"], 16 if found["hex"] is not None else 8))
    return " " if found["blank"] is not None else found["itself"]


def _command(value: str, redactor: Redactor) -> list[str]:
    """Words of a command to show: as they are written, and as they are read where that shows a secret."""
    words = _unit_words(value)
    written = tuple(word.replace('"', "").replace("'", "") for word in words)
    read = tuple(_unquoted(word) for word in words)
    return [
        as_read if hidden != plain else as_written
        for plain, hidden, as_read, as_written in zip(
            read, hide_secrets(read), redact_argv(read, redactor), redact_argv(written, redactor), strict=True
        )
    ]


def _quoted(word: str) -> str:
    if word and not any(character.isspace() for character in word):
        return word
    return '"' + word.replace('"', '\\"') + '"'


def _variable(word: str, redactor: Redactor) -> str:
    name, equals, value = word.replace('"', "").replace("'", "").partition("=")
    if not equals or not _VARIABLE_NAME.fullmatch(name):  # no assignment: it may be the rest of one
        return '"***"'
    if _ENVIRONMENT.fullmatch(name) is None or hide_value(name, value) is not None:  # VLLM_PORT, not VLLM_API_KEY
        return f'"{name}={HIDDEN}"'
    read = _unquoted(word).partition("=")[2]
    if (hidden := hide_secrets_in(read)) != read:
        value = hidden.replace('"', '\\"')
    (shown,) = hide_secrets((redactor.words(value),))
    return f'"{name}={shown}"'


def _apt(path: str, data: bytes, redactor: Redactor) -> bytes:
    """What is read of apt's configuration: the period of upgrades, and the packages that are left alone."""
    text = re.sub(r"(?m)^[ \t]*(//|#(?!clear)).*$", "", data.decode("utf-8", errors="replace"))
    kept = re.findall(
        r"APT::Periodic::Unattended-Upgrade\s++(?:\"[^\";]{0,80}\"|[^\s\";]{0,80})\s*+;"
        r"|Unattended-Upgrade::Package-Blacklist\s*+\{[^{}]*\}",
        text,
        re.I,
    )
    return "".join(f"{line}\n" for line in kept).encode()


def _dmi(path: str, data: bytes, redactor: Redactor) -> bytes:
    """An asset tag is the owner's, except where it is a cloud's mark."""
    text = data.decode("utf-8", errors="replace").strip()
    return (text if text.startswith(DMI_STARTS) else "-").encode() + b"\n"


def _pci_config(path: str, data: bytes, redactor: Redactor) -> bytes:
    """Configuration space without the Device Serial Number, of which network adapters make their MAC address."""
    clean = bytearray(data)
    where, steps = _EXTENDED, 0
    while where and where + 12 <= len(clean) and steps < 96:
        (header,) = struct.unpack_from("<I", clean, where)
        if header & 0xFFFF == _DSN:
            clean[where + 4 : where + 12] = bytes(8)
        where, steps = header >> 20 & ~3, steps + 1
    return bytes(clean)


def _as_it_is(path: str, data: bytes, redactor: Redactor) -> bytes:
    return data


def _kernel_log(path: str, data: bytes, redactor: Redactor) -> bytes:
    lines = data.decode("utf-8", errors="replace").splitlines()
    return "".join(f"{redact_message(line, redactor)}\n" for line in lines).encode()


def _vendor(path: str, data: bytes, redactor: Redactor) -> bytes:
    """Answers of a vendor's library: versions there have four numbers, as addresses have."""
    return redactor.text(data.decode("utf-8", errors="surrogateescape"), addresses=False).encode(
        "utf-8", errors="surrogateescape"
    )


Rule = Callable[[str, bytes, Redactor], bytes]
_PID = r"/proc/(?:self|[0-9]+)"


def _start_of(pattern: str) -> str:
    """The characters that all paths of a pattern begin with, so that most patterns are never compiled.

    The patterns of the table have no alternatives outside of brackets.
    """
    return pattern[: next(place for place, character in enumerate(f"{pattern}(") if character in "(\\[.")]


_RULES: tuple[tuple[str, LazyPattern, Rule], ...] = tuple(
    (_start_of(pattern), LazyPattern(pattern), rule)
    for pattern, rule in (
        (r"/proc/cmdline", _kernel_cmdline),
        (rf"{_PID}/cmdline", _cmdline),
        (rf"{_PID}/comm", _comm),
        (rf"{_PID}/environ", _environ),
        (rf"{_PID}(?:/task/[0-9]+)?/status", _status),
        (rf"{_PID}/task/[0-9]+/stat", _stat),
        (rf"{_PID}/numa_maps", _numa_maps),
        (r"/proc/(?:(?:self|[0-9]+)/)?(?:mountinfo|mounts)", _mounts),
        (r"(?:/usr)?/lib/modules/[^/]+/modules\.(?:dep|builtin)", _gpu_modules),
        (r"/var/lib/dpkg/status", _dpkg_status),
        (r"/etc/apt/(?:sources\.list|preferences)(?:\.d/.*)?", _apt_lists),
        (r"/var/lib/dkms/.*/make\.log", _make_log),
        (r"/(?:etc|run|var/run)/cdi/[^/]*", _cdi),
        (r"/vendor/stack\.json", _stack_document),
        (r"/proc/config\.gz", _config_gz),
        (r"/boot/config-.*", _config),
        (r"(?:/usr)?/lib/modules/[^/]+/config", _config),
        (r"/etc/apt/apt\.conf(?:\.d/.*)?", _apt),
        (r"/(?:etc|run|usr/lib|usr/local/lib|lib)/.*\.(?:conf|timer)", _conf),
        (r"/(?:etc|run|usr/lib|lib)/systemd/.*\.(?:service|slice|scope|socket|mount|swap|target|path)", _conf),
        (r"/etc/default/grub", _conf),
        (r"/boot/.*/(?:grubenv|[^/]*\.conf)", _conf),
        (r"/sys/.*/chassis_asset_tag", _dmi),
        (r"/sys/.*/config", _pci_config),
        (r"/kernel\.log", _kernel_log),
        (r"/vendor/pci\.ids", _as_it_is),
        (r"/vendor/.*", _vendor),
    )
)
