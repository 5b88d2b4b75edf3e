"""What the engines of this machine have written and counted, read once and bounded, for `doctor`.

An engine's log is where its standard error or output goes: a file, the journal of its unit, or the file in which Docker or
Podman keeps what a container writes. How an engine runs stands in its first lines; what went wrong later in its last ones.
vLLM counts the requests that it takes back; that is read of its own /metrics, on the
loopback address. Sources: vllm/v1/metrics/loggers.py; systemd.journal-fields(7); Docker, "JSON File logging driver";
conmon(8).
"""

from __future__ import annotations

import http.client
import json
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from bedplate.errors import CommandError
from bedplate.model.facts.host import HostFacts, Problem
from bedplate.model.facts.system import EngineNote, EngineNoteKind, EngineProcess, ToolFailure

_LOGS_MOST = 8
_END_BYTES = 256 << 10
"""Of the beginning of a log, and of its end."""
_ALL_S = 1.0
"""For all logs and counters together; what does not fit is said."""
_PORTS_MOST = 8
_METRICS_S = 0.3
_METRICS_MOST = 1 << 20
_LAST_LINES = 400
"""Of a journal."""
_CONTAINER = re.compile(r"(?:^|[/:-])([0-9a-f]{64})(?:\.scope)?(?:/|$)")
_CONTAINER_LOGS = (
    "var/lib/docker/containers/{id}/{id}-json.log",
    "var/lib/containers/storage/overlay-containers/{id}/userdata/ctr.log",
)
_CONMON = re.compile(r"\d{4}-\d\d-\d\dT\S{8,24} std(?:out|err) [FP] ")
_PREEMPTED = re.compile(
    r"^vllm:num_preemptions_total(?:\{[^}]{0,400}\})? (\d{1,18}(?:\.\d{1,3})?(?:e\+\d\d)?)$", re.MULTILINE
)
_HERE = ("", "0.0.0.0", "127.0.0.1", "::", "localhost")
_VLLM_PORT = 8000


class _Enough(Exception):
    """As much of a program's output as is kept was read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Log:
    """Where an engine writes. `why` says in a sentence why it cannot be read; then there is no text."""

    source: str
    text: str = ""
    why: str = ""


def with_engine_logs(facts: HostFacts, root: Path = Path("/")) -> HostFacts:
    """The facts of this machine, with what the logs and counters of its engines say, and a problem for each unread log.

    root is where its files are looked up. Never raises for what an engine has written. For at most eight logs.
    """
    notes, failures, problems = list(facts.engine_notes), list(facts.failures), list(facts.problems)
    deadline_s = time.monotonic() + _ALL_S
    for engine, log in _logs(facts.engines, root, deadline_s):
        if log.why:
            problems.append(Problem(source=log.source, message=f"the log of {engine} cannot be read: {log.why}"))
            continue
        found, errors = _judge(log)
        notes += found
        failures += errors
    for port in _vllm_ports(facts.engines):
        source = f"http://127.0.0.1:{port}/metrics"
        try:
            count = _count_preemptions(port, min(_METRICS_S, deadline_s - time.monotonic()))
        except (OSError, http.client.HTTPException, ValueError) as error:
            problems.append(Problem(source=source, message=f"the counters of vllm cannot be read: {error}"))
            continue
        if count:
            text = f"vllm:num_preemptions_total is {count}"
            notes.append(EngineNote(kind=EngineNoteKind.KV_CACHE_FULL, engine="vllm", text=text, source=source))
    return replace(facts, engine_notes=tuple(notes), failures=tuple(failures), problems=tuple(problems))


def _judge(log: _Log) -> tuple[list[EngineNote], list[ToolFailure]]:
    from bedplate.host.formats.engine_log import parse_engine_log
    from bedplate.host.formats.section import Section

    text = log.text.replace("\r", "")
    section = Section(format="engine-log", file=log.source, first_line=1, last_line=text.count("\n") + 1, text=text)
    facts = parse_engine_log(section)
    return [replace(note, source=log.source) for note in facts.engine_notes], list(facts.failures)


def _logs(engines: Sequence[EngineProcess], root: Path, deadline_s: float) -> Iterator[tuple[str, _Log]]:
    """(engine, log) of each log once, however many processes write to it."""
    seen: set[tuple[str, object]] = set()
    for engine in engines:
        if len(seen) >= _LOGS_MOST:
            return
        log = _find_log(engine, root, seen, deadline_s)
        if log is not None:
            yield engine.engine, log


def _find_log(engine: EngineProcess, root: Path, seen: set[tuple[str, object]], deadline_s: float) -> _Log | None:
    """Where a process writes, by its standard error or else its output; None where that was read, or is thrown away."""
    container = _CONTAINER.search(engine.cgroup.path)
    unread: _Log | None = None
    for descriptor in (2, 1):
        source = root / f"proc/{engine.pid}/fd/{descriptor}"
        try:
            target, about = str(source.readlink()), source.stat()
        except OSError as error:
            if isinstance(error, FileNotFoundError):
                return None
            unread = _Log(source=str(source), why=str(error.strerror))
            break
        if stat.S_ISREG(about.st_mode):
            return _once(seen, ("file", (about.st_dev, about.st_ino)), partial(_read_file, source, target))
        if container is not None:
            return _once(seen, ("container", container[1]), partial(_read_container, container[1], root))
        if target.startswith("socket:") and engine.cgroup.path not in ("", "/"):
            return _once(seen, ("journal", engine.cgroup.path), partial(_read_journal, engine, root, deadline_s))
        if target != "/dev/null" and unread is None:
            kind = "pipe" if target.startswith("pipe:") else "terminal" if stat.S_ISCHR(about.st_mode) else "socket"
            why = f"it goes to a {kind}. Save it to a file, and run: bedplate doctor --from FILE"
            unread = _Log(source=str(source), why=why)
    if unread is None or ("unread", engine.engine) in seen:
        return None
    seen.add(("unread", engine.engine))
    return unread


def _once(seen: set[tuple[str, object]], key: tuple[str, object], read: Callable[[], _Log]) -> _Log | None:
    if key in seen:
        return None
    seen.add(key)
    return read()


def _read_file(path: Path, name: str) -> _Log:
    """The beginning and the end of a regular file; what lies between is left out at line ends."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        return _Log(source=name, why=str(error.strerror))
    try:
        size = os.fstat(descriptor).st_size
        first = os.pread(descriptor, _END_BYTES, 0)
        last = os.pread(descriptor, _END_BYTES, max(size - _END_BYTES, len(first)))
    except OSError as error:
        return _Log(source=name, why=str(error.strerror))
    finally:
        os.close(descriptor)
    if size > 2 * _END_BYTES:
        first, last = first[: first.rfind(b"\n") + 1], last[last.find(b"\n") + 1 :]
    return _Log(source=name, text=(first + last).decode(errors="replace"))


def _read_container(id: str, root: Path) -> _Log:
    for form in _CONTAINER_LOGS:
        path = root / form.format(id=id)
        if path.is_file():
            log = _read_file(path, str(path))
            return replace(log, text="\n".join(_unwrap(line) for line in log.text.splitlines()))
    name = f"container {id[:12]}"
    return _Log(source=name, why=f"it is in no file. Run: docker logs {id[:12]} 2>&1 | bedplate doctor --from -")


def _unwrap(line: str) -> str:
    """A line as the container wrote it: Docker keeps JSON, Podman puts time, stream and "F" (whole) or "P" before it."""
    if line.startswith("{"):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            return ""
        return str(record.get("log", "")).rstrip("\n") if isinstance(record, dict) else ""
    found = _CONMON.match(line)
    return line[found.end() :] if found is not None else line


def _read_journal(engine: EngineProcess, root: Path, deadline_s: float) -> _Log:
    """The first lines that its control group wrote since the process started, and the last ones where those are not all."""
    source = f"journal of {engine.cgroup.path.rpartition('/')[2]}"
    try:
        since = _started(engine.pid, root)
    except (OSError, ValueError, IndexError) as error:
        return _Log(source=source, why=f"when it started is not known: {error}")
    words = [
        "journalctl",
        "--no-pager",
        "--quiet",
        "--output=cat",
        f"--since=@{since}",
        f"_SYSTEMD_CGROUP={engine.cgroup.path}",
    ]
    try:
        text, is_all = _first_lines(words, deadline_s)
        if not is_all:
            text += _first_lines([*words, f"--lines={_LAST_LINES}"], deadline_s)[0]
    except CommandError as error:
        return _Log(source=source, why=error.message)
    return _Log(source=source, text=text)


def _first_lines(words: Sequence[str], deadline_s: float) -> tuple[str, bool]:
    """What a program prints, up to a limit, and whether that is all: beyond it the program is ended. Raises CommandError."""
    from bedplate.act.run import run

    lines: list[str] = []
    left = _END_BYTES

    def keep(line: str) -> None:
        nonlocal left
        lines.append(line)
        left -= len(line) + 1
        if left < 0:
            raise _Enough

    try:
        run(words, timeout_s=max(deadline_s - time.monotonic(), 0.05), on_line=keep, split=True)
    except _Enough:
        return "\n".join(lines) + "\n", False
    return "\n".join(lines) + "\n", True


def _started(pid: int, root: Path) -> int:
    """When a process started, in seconds since 1970, rounded down. Raises OSError, ValueError or IndexError."""
    ticks = int((root / f"proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    boot = re.search(r"^btime (\d+)$", (root / "proc/stat").read_text(), re.MULTILINE)
    if boot is None:
        raise ValueError("/proc/stat has no btime")
    return int(boot[1]) + ticks // os.sysconf("SC_CLK_TCK")


def _vllm_ports(engines: Sequence[EngineProcess]) -> list[int]:
    """Where each vLLM listens that can be asked on the loopback address, at most eight of them."""
    from bedplate.plan.engine_arguments import argument

    ports: dict[int, None] = {}
    for engine in engines:
        if engine.engine != "vllm" or not {"serve", "vllm.entrypoints.openai.api_server"} & set(engine.argv):
            continue
        if argument(engine, "--uds") is not None or argument(engine, "--ssl-certfile") is not None:
            continue
        if not _is_on_our_network(engine.pid):
            continue
        port = argument(engine, "--port") or str(_VLLM_PORT)
        if re.fullmatch(r"[1-9]\d{0,4}", port) and (argument(engine, "--host") or "") in _HERE:
            ports[int(port)] = None
    return list(ports)[:_PORTS_MOST]


def _is_on_our_network(pid: int) -> bool:
    """False for a process that is known to have a network of its own, as in a container: its port is not ours."""
    try:
        return Path(f"/proc/{pid}/ns/net").readlink() == Path("/proc/self/ns/net").readlink()
    except OSError:
        return True


def _count_preemptions(port: int, timeout_s: float) -> int:
    """Of all models together. Raises OSError, HTTPException or ValueError where nothing answers as it should, in time."""
    from bedplate.engines.client import Endpoint, fetch

    if timeout_s <= 0:
        raise TimeoutError("no time was left for it")
    endpoint = Endpoint(host="127.0.0.1", port=port)
    reply = fetch(endpoint, "/metrics", timeout_s=timeout_s, limit_bytes=_METRICS_MOST)
    if reply.status != 200:
        raise ValueError(f"it answers with status {reply.status}")
    return int(sum(float(value) for value in _PREEMPTED.findall(reply.body.decode(errors="replace"))))
