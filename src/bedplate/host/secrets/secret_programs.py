"""Short options by which programs beside engines take a secret: `mysql -pSECRET`, `redis-cli -a SECRET`. Pure.

A letter means another thing to each program (-p is a prompt to llama.cpp, -a an alias, -b a batch), so it counts only behind
the program's name. Such commands stand in scripts that start an engine and in the Exec lines of units. Source: the manual
pages of the programs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bedplate.host.secrets.secret_names import HIDDEN, is_secret_name


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    programs: tuple[str, ...]
    apart: tuple[str, ...] = ()
    """Options whose next word is a secret."""
    glued: tuple[str, ...] = ()
    """Options in whose own word it stands."""
    switches: str = ""
    """Letters of options without a value, which may stand before one of these in the same word."""
    word: str = ""
    """A word without which they mean something else."""
    verbs: tuple[str, ...] = ()
    """Words whose next word is a secret unless it is an option: `wandb login KEY`."""
    rest: str = ""
    """Letter of an option behind which each word that is no option is hidden: `htpasswd -b FILE USER PASSWORD`."""


_ROWS = (
    _Row(
        programs=(
            *(
                "mysql",
                "mysqladmin",
                "mysqlbinlog",
                "mysqlcheck",
                "mysqldump",
                "mysqlimport",
                "mysqlpump",
                "mysqlsh",
                "mysqlshow",
            ),
            *("mysqlslap", "mariadb", "mariadb-admin", "mariadb-backup", "mariadb-check", "mariadb-dump", "mariadb-import"),
            *("mariadb-show", "mariabackup", "xtrabackup", "mycli"),
        ),
        glued=("-p",),
    ),
    _Row(
        programs=("redis-cli", "valkey-cli", "keydb-cli", "redis-benchmark", "valkey-benchmark", "memtier_benchmark"),
        apart=("-a",),
        glued=("-a",),
    ),
    _Row(
        programs=("mongo", "mongosh", "mongodump", "mongorestore", "mongoexport", "mongoimport", "mongostat", "mongotop"),
        apart=("-p",),
        glued=("-p",),
    ),
    _Row(programs=("sshpass", "cqlsh", "rabbitmqadmin", "useradd", "usermod"), apart=("-p",), glued=("-p",)),
    _Row(programs=("influx",), apart=("-p", "-t"), glued=("-p",)),
    _Row(programs=("ssh-keygen",), apart=("-N", "-P")),
    _Row(programs=("http", "https", "xh"), apart=("-a",)),
    _Row(programs=("ttyd", "gotty"), apart=("-c",)),
    _Row(programs=("az",), apart=("-p",), word="login"),
    _Row(
        programs=(
            "ldapsearch",
            "ldapadd",
            "ldapmodify",
            "ldapdelete",
            "ldapmodrdn",
            "ldappasswd",
            "ldapwhoami",
            "ldapcompare",
        ),
        apart=("-w", "-s"),
        glued=("-w",),
    ),
    _Row(programs=("smbclient", "smbget", "rpcclient"), apart=("-U",), glued=("-U",)),
    _Row(
        programs=("curl",),
        apart=("-u", "-U", "-b", "-E", "--cert", "--proxy-cert"),
        glued=("-u", "-U", "-b", "-E", "--cert=", "--proxy-cert="),
        switches="sSfgkLvijIGnNaOlqRZ#0123456",
    ),
    _Row(programs=("lftp",), apart=("-u",), glued=("-u",)),
    _Row(programs=("zip", "unzip", "zipcloak"), apart=("-P",), glued=("-P",)),
    _Row(programs=("7z", "7za", "7zr", "7zz", "rar", "unrar"), glued=("-p", "-hp")),
    _Row(programs=("openssl",), apart=("-k", "-K", "-pass", "-passin", "-passout")),
    _Row(programs=("plink", "pscp", "psftp", "putty"), apart=("-pw",)),
    _Row(programs=("ipmitool",), apart=("-P",), glued=("-P",)),
    _Row(programs=("snmpget", "snmpset", "snmpwalk", "snmpbulkwalk", "snmptrap"), apart=("-A", "-X", "-c")),
    _Row(programs=("mosquitto_pub", "mosquitto_sub", "mosquitto_rr", "sqlcmd", "bcp"), apart=("-P",), glued=("-P",)),
    _Row(programs=("consul", "nomad", "serf"), apart=("-encrypt",), glued=("-encrypt=",)),
    _Row(
        programs=("docker", "podman", "nerdctl", "buildah", "skopeo", "helm", "oras", "crane", "regctl"),
        apart=("-p",),
        glued=("-p",),
        word="login",
    ),
    _Row(programs=("wandb", "vault", "comet", "swanlab"), verbs=("login",)),
    _Row(programs=("htpasswd",), rest="b"),
)
_BY_PROGRAM = {program: row for row in _ROWS for program in row.programs}
_NAME = re.compile(rf"(?<![\w.-])(?:{'|'.join(map(re.escape, sorted(_BY_PROGRAM, key=len, reverse=True)))})(?![\w.-])")
_PIPE = re.compile(
    r"(?P<echo>(?<![\w.-])(?:echo|printf)[ \t]++(?:-[neE]{1,3}[ \t]++)?(?:[\"']?%s(?:\\n)?[\"']?[ \t]++)?)"
    r"|<<<[ \t]*+(?P<here>\"[^\"]*+\"|'[^']*+'|[^\s<]++)|>{1,2}[ \t]*+[\"']?(?P<file>[^\s;|&<>\"']++)|\|(?!\|)"
)
_INPUT = re.compile(r"[ \t-]stdin\b|\bchpasswd\b|\blogin\b|\bsudo[ \t]{1,8}-S|\bcryptsetup\b|--with-token\b|passphrase-fd")
_COMMAND_MOST = 200  # characters of a command that are looked at for what it takes
_ENDS = {";", "|", "||", "&", "&&"}  # of a command in a script
_BLANKS = re.compile(r"(\s++)")


def hide_own_options(words: Sequence[str]) -> tuple[str, ...]:
    """Words of a command line, as many as before: ("mysql", "-pabc") -> ("mysql", "-p***")."""
    shown: list[str] = []
    there = set(words)
    row: _Row | None = None
    is_secret = False  # the next word
    left = 0  # words that are no options and are hidden, of those that follow
    quote = ""  # that of a secret which goes on over blanks
    for word in words:
        plain = word.lstrip("\"'")
        if quote or is_secret:
            shown.append(HIDDEN)
            quote = _open_quote(word, quote)
            is_secret = False
            continue
        if plain.rstrip("\"'") in _ENDS:
            row, left = None, 0
        elif left and not plain.startswith("-"):
            shown.append(HIDDEN)
            quote = _open_quote(word, "")
            left -= 1
            continue
        elif not plain.startswith("-") or plain.startswith("-/"):  # an Exec line of systemd whose status does not count
            row = _BY_PROGRAM.get(plain.rpartition("/")[2], row)
        if row is None or (row.word and row.word not in there):
            shown.append(word)
            continue
        start = word[: len(word) - len(plain)]
        if row.switches and plain[:1] == "-" and plain[1:2] not in ("", "-"):  # curl -su is curl -s -u
            plain = f"-{plain[1:].lstrip(row.switches)}"
        glued = next((option for option in row.glued if plain.startswith(option) and plain != option), "")
        if plain in row.verbs:
            left = 1
        elif row.rest and plain[:1] == "-" and plain[1:2] != "-" and row.rest in plain:
            left = len(words)
        is_secret = plain in row.apart
        quote = _open_quote(plain.removeprefix(glued), "") if glued else ""
        shown.append(start + glued + HIDDEN if glued else word)
    return tuple(shown)


def _open_quote(word: str, quote: str) -> str:
    """The quote that is still open behind a word; quote: the one that was open before it."""
    if quote:
        return "" if word.endswith(quote) else quote
    first = word[:1]
    return first if first in ('"', "'") and (len(word) == 1 or not word.endswith(first)) else ""


def hide_own_options_in(text: str) -> str:
    """The same in a text, whose words blanks part: of a script, whose quotes are not looked into."""
    text = hide_piped_in(text) if "|" in text or ">" in text or "<<<" in text else text
    if _NAME.search(text) is None:
        return text
    parts = _BLANKS.split(text)  # words, and the blanks between them
    parts[::2] = hide_own_options(parts[::2])
    return "".join(parts)


def hide_piped_in(text: str) -> str:
    """A script without what echo writes into the input of a program, or into a file, that takes a secret there."""
    parts: list[str] = []
    place = 0
    echo: int | None = None  # behind the last "echo" whose output goes on
    for found in _PIPE.finditer(text):
        if found["echo"] is not None:
            echo = found.end()
            continue
        end = found.end() if found["here"] is not None else found.start()
        start = found.start("here") if found["here"] is not None else echo
        takes = (
            is_secret_name(found["file"].rpartition("/")[2])
            if found["file"] is not None
            else _INPUT.search(text, found.end(), found.end() + _COMMAND_MOST) is not None
            if found["here"] is None
            else _INPUT.search(text, max(place, found.start() - _COMMAND_MOST), found.start()) is not None
        )
        if takes and start is not None and start >= place and text[start:end].strip() not in ("", HIDDEN):
            parts += [text[place:start], HIDDEN, " " if found["here"] is None else ""]
            place = end
        if found["file"] is None:
            echo = None
    return "".join([*parts, text[place:]]) if parts else text
