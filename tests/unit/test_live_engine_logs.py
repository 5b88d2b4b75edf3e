"""`doctor` reads what engines that run have written, wherever that goes, and what vLLM counts."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from tests.effort import wait_until
from tests.unit.audit_cases import cases
from tests.unit.facts_factory import make_engine, make_facts, make_gpu

from bedplate.flows.audit import read_report
from bedplate.flows.engine_logs import with_engine_logs
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.system import EngineNoteKind
from bedplate.plan.rules.checks.engine_log import check_engine_notes

pytestmark = pytest.mark.touches(
    "spawn", "machine", "connect", why="an engine's log is found by its process, and its counters by its port"
)
EAGER = "WARNING 01-05 01:02:03 [vllm.py:624] Enforce eager set, overriding optimization level to -O0"
CPU = "INFO 01-05 01:02:03 [__init__.py:242] Automatically detected platform cpu."
FULL = "KV cache pool is full. Retract requests. #retracted_reqs: 1"


@contextmanager
def engine(directory: Path, *, lines: str, output: int | None = None) -> Iterator[tuple[int, Path]]:
    """(pid, log) of a process that the process table shows as `vllm serve`, and that has written these lines."""
    script, log = directory / "vllm", directory / "vllm.log"
    script.write_text("import sys, time\nprint(sys.argv[-1], flush=True)\ntime.sleep(600)\n")
    with log.open("ab") as sink:
        process = subprocess.Popen(
            [sys.executable, script, "serve", "m", "--port", "1", lines],
            stdin=subprocess.DEVNULL,
            stdout=sink if output is None else output,
            stderr=subprocess.STDOUT,
        )
    try:
        if output is None:
            wait_until(lambda: lines in log.read_text() or process.poll() is not None, "the engine has written")
        yield process.pid, log
    finally:
        process.kill()
        process.wait()


def facts_of(pid: int, *, cgroup: str = "/") -> HostFacts:
    found = make_engine(pid=pid, argv=("python3", "vllm", "m"))
    return replace(make_facts(), engines=(replace(found, cgroup=replace(found.cgroup, path=cgroup)),))


def test_doctor_finds_it_in_the_log_of_a_running_engine(tmp_path: Path) -> None:
    with engine(tmp_path, lines=EAGER) as (_, log):
        (finding,) = (found for found in read_report(None).findings if found.id == "engine.eager")
    assert [evidence.source for evidence in finding.evidence] == [str(log)]
    assert "Enforce eager set" in finding.evidence[0].fact


def test_the_first_lines_and_the_last_are_read_of_a_large_log(tmp_path: Path) -> None:
    (tmp_path / "vllm.log").write_text("")
    with engine(tmp_path, lines=EAGER) as (pid, log):
        with log.open("a") as more:
            more.write("INFO: 127.0.0.1 - GET /health 200\n" * 500_000)
            more.write(f"{FULL}\n")
        kinds = [note.kind for note in with_engine_logs(facts_of(pid)).engine_notes]
    assert kinds == [EngineNoteKind.EAGER, EngineNoteKind.KV_CACHE_FULL]


def test_a_log_that_two_processes_share_is_read_once(tmp_path: Path) -> None:
    with engine(tmp_path, lines=EAGER) as (first, _), engine(tmp_path, lines=EAGER) as (second, _):
        one = facts_of(first)
        two = replace(one, engines=(*one.engines, *facts_of(second).engines))
        notes = with_engine_logs(two).engine_notes
    assert len(notes) == 1


def test_a_log_in_a_pipe_is_a_problem_that_says_what_to_do(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    try:
        with engine(tmp_path, lines=EAGER, output=writer) as (pid, _):
            facts = with_engine_logs(facts_of(pid))
    finally:
        os.close(reader)
        os.close(writer)
    (problem,) = (problem for problem in facts.problems if "log of" in problem.message)
    assert "goes to a pipe" in problem.message and "doctor --from FILE" in problem.message
    assert facts.engine_notes == ()


def test_a_log_that_is_thrown_away_is_no_problem(tmp_path: Path) -> None:
    with engine(tmp_path, lines=EAGER, output=subprocess.DEVNULL) as (pid, _):
        facts = with_engine_logs(facts_of(pid))
    assert (facts.engine_notes, facts.problems) == ((), make_facts().problems)


@pytest.mark.parametrize("form", ["docker", "podman"])
def test_the_log_of_a_container_is_read_where_its_manager_keeps_it(form: str, tmp_path: Path) -> None:
    id = "ab" * 32
    if form == "docker":
        log = tmp_path / f"var/lib/docker/containers/{id}/{id}-json.log"
        text = json.dumps({"log": f"{EAGER}\n", "stream": "stderr", "time": "2026-01-05T01:02:03Z"}) + "\n{broken\n"
        cgroup = f"/system.slice/docker-{id}.scope"
    else:
        log = tmp_path / f"var/lib/containers/storage/overlay-containers/{id}/userdata/ctr.log"
        text = f"2026-01-05T01:02:03.000000000+00:00 stderr F {EAGER}\n"
        cgroup = f"/machine.slice/libpod-{id}.scope/container"
    log.parent.mkdir(parents=True)
    log.write_text(text)
    descriptor = tmp_path / "proc/7/fd"
    descriptor.mkdir(parents=True)
    os.mkfifo(tmp_path / "pipe")
    (descriptor / "2").symlink_to(tmp_path / "pipe")
    (note,) = with_engine_logs(facts_of(7, cgroup=cgroup), tmp_path).engine_notes
    assert (note.kind, note.source) == (EngineNoteKind.EAGER, str(log))


def test_an_engine_without_an_accelerator_is_no_fault_where_there_is_none(tmp_path: Path) -> None:
    with engine(tmp_path, lines=CPU) as (pid, _):
        facts = with_engine_logs(facts_of(pid))
    assert cases(check_engine_notes, replace(facts, accelerators=())) == []
    (found,) = cases(check_engine_notes, replace(facts, accelerators=(make_gpu(),)))
    assert found.id == "engine.no-device"


def test_logs_that_may_not_be_read_are_one_problem(tmp_path: Path) -> None:
    """A user without rights looks at an engine of many workers; a path through a file fails for root, too."""
    (tmp_path / "proc").mkdir()
    for pid in (7, 8, 9):
        (tmp_path / f"proc/{pid}").write_text("")
    workers = tuple(facts_of(pid).engines[0] for pid in (7, 8, 9))
    read = with_engine_logs(replace(make_facts(), engines=workers), tmp_path)
    (problem,) = read.problems[len(make_facts().problems) :]
    assert problem.message == "the log of vllm cannot be read: Not a directory"


def test_a_process_that_has_ended_is_passed_over() -> None:
    assert with_engine_logs(facts_of(2**22 + 1)) == facts_of(2**22 + 1)


class Counters(BaseHTTPRequestHandler):
    """Answers /metrics as vLLM does, for two models."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/metrics" else 404)
        self.end_headers()
        self.wfile.write(
            b"# TYPE vllm:num_preemptions_total counter\n"
            b'vllm:num_preemptions_total{engine="0",model_name="m"} 12.0\n'
            b'vllm:num_preemptions_total{engine="1",model_name="m"} 1.0\n'
            b'vllm:num_preemptions_created{engine="0",model_name="m"} 1.7e+09\n'
        )

    def log_message(self, *words: object) -> None:
        """Keep silent."""


@pytest.mark.parametrize(
    ("words", "is_asked"),
    [
        (("vllm", "serve", "m", "--port", "{port}"), True),
        (("python3", "-m", "vllm.entrypoints.openai.api_server", "--port={port}", "--host", "0.0.0.0"), True),
        (("vllm", "serve", "m", "--port", "{port}", "--host", "192.0.2.7"), False),
        (("vllm", "bench", "--port", "{port}"), False),
        (("vllm", "serve", "m", "--port", "1; reboot"), False),
    ],
)
def test_requests_that_vllm_took_back_are_counted_by_its_own_metrics(words: tuple[str, ...], is_asked: bool) -> None:
    server = HTTPServer(("127.0.0.1", 0), Counters)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        argv = tuple(word.replace("{port}", str(server.server_port)) for word in words)
        facts = replace(make_facts(), engines=(make_engine(pid=2**22 + 1, argv=argv),) * 2)
        notes = with_engine_logs(facts).engine_notes
    finally:
        server.shutdown()
        server.server_close()
    if not is_asked:
        assert notes == ()
        return
    (found,) = cases(check_engine_notes, replace(facts, engine_notes=notes))
    assert found.id == "engine.kv-full"
    assert found.evidence[0].fact == "vllm:num_preemptions_total is 13"
    assert found.evidence[0].source == f"http://127.0.0.1:{server.server_port}/metrics"


def test_a_port_where_nothing_answers_is_a_problem_that_names_it() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        argv = ("vllm", "serve", "m", "--port", str(probe.getsockname()[1]))
        facts = replace(make_facts(), engines=(make_engine(pid=2**22 + 1, argv=argv),))
        read = with_engine_logs(facts)
    assert read.engine_notes == ()
    (problem,) = read.problems[len(facts.problems) :]
    assert problem.source.endswith("/metrics") and "the counters of vllm cannot be read: " in problem.message


@pytest.mark.parametrize("lines", [10, 50_000])
def test_the_journal_of_a_unit_is_read_at_both_ends(lines: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program stands in for journalctl, which no host without systemd has; it must be asked for this process's run."""
    program = tmp_path / "journalctl"
    program.write_text(
        f"#!/bin/sh\necho \"$@\" >>{tmp_path}/asked\ncase $* in *--lines=*) echo '{FULL}'; exit;; esac\n"
        f"echo '{EAGER}'\nyes 'GET /health 200' | head -n {lines}\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("BEDPLATE_PATH_PREFIX", str(tmp_path))
    left, right = socket.socketpair()
    with left, right, engine(tmp_path, lines=EAGER, output=left.fileno()) as (pid, _):
        read = with_engine_logs(facts_of(pid, cgroup="/system.slice/vllm.service"))
    asked = (tmp_path / "asked").read_text().splitlines()
    assert "_SYSTEMD_CGROUP=/system.slice/vllm.service" in asked[0] and "--since=@" in asked[0]
    assert read.problems == make_facts().problems
    kinds = [EngineNoteKind.EAGER] if lines == 10 else [EngineNoteKind.EAGER, EngineNoteKind.KV_CACHE_FULL]
    assert [(note.kind, note.source) for note in read.engine_notes] == [(kind, "journal of vllm.service") for kind in kinds]
