"""Short reports, to the letter: images, keys, disks, recordings, the endpoint, the guard, the log of tuning."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.tune_machines import SPEED

from bedplate.flows.logs import read_log
from bedplate.model.client_key import ClientKey
from bedplate.model.guard import GuardMove, GuardState, GuardStep, NeighbourLimits, Released, Resource
from bedplate.report.client_keys import render_key
from bedplate.report.device_speed import render_device_speed
from bedplate.report.endpoint import render_endpoint
from bedplate.report.guard import render_released, render_step, step_object
from bedplate.report.images import render_image_line, render_manifest
from bedplate.report.markdown import link_addresses
from bedplate.report.plan import render_log
from bedplate.report.proof.records import render_sensitivities
from bedplate.report.recording import render_recorded, render_replaced
from bedplate.report.recovery_key import render_recovery
from bedplate.report.selftest import render_selftest
from bedplate.report.serving import render_serving

STATE = GuardState(
    limits=NeighbourLimits(cpu_max_pct=None, memory_high_bytes=None, io_weight=None), moved_at_s=None, quiet_s=0.0
)


def test_what_is_served_is_a_line_for_each_model() -> None:
    model = {"name": "qwen", "engine": "llamacpp", "parallel": 2, "context": 4096, "memory_bytes": 1 << 30, "layer": "a.raw"}
    assert render_serving({"cpus": [0, 1], "because": "2 online", "models": [model]}) == (
        "CPUs: 2 (2 online)\nqwen: llamacpp, 2 requests of 4096 tokens, 1.0 GiB, layer a.raw\n"
    )


def test_an_image_is_a_line_and_its_manifest_a_page() -> None:
    row = {"version": "0.1~ab", "variant": "development", "kernel": "7.3.4", "packages": 120, "disk_bytes": 100 << 20}
    assert render_image_line(row) == ("0.1~ab           development  7.3.4                         120 packages  100.0 MiB")
    record = {
        "id": "bedplate",
        "version": "0.1~ab",
        "variant": "development",
        "suite": "trixie",
        "kernel": "7.3.4",
        "files": {"raw": {"name": "a.raw", "size_bytes": 2 << 20, "disk_bytes": 1 << 20}},
        "pcr11": "ff",
        "kernel_command_line": "quiet",
        "partitions": [{"label": "root", "uuid": "1-2", "size_bytes": 1 << 20, "sha256": "0123456789abcdef99"}],
        "inputs": {"lock": "fedcba9876543210aa"},
        "packages": [{"name": "libc6", "version": "2.41"}],
    }
    assert render_manifest(record, "/images/ab").splitlines() == [
        "bedplate 0.1~ab (development), Debian trixie, kernel 7.3.4",
        "in /images/ab",
        "",
        "  raw         2.0 MiB     1.0 MiB on disk  a.raw",
        "",
        "expected PCR 11  ff",
        "kernel command line  quiet",
        "",
        "  root                            1.0 MiB  1-2  sha256 0123456789abcdef",
        "",
        "inputs  lock fedcba9876543210",
        "",
        "1 packages",
        "  libc6                                    2.41",
    ]


@pytest.mark.parametrize(
    ("expires_s", "ends"), [(0, "no end            "), (86_400, "expired 1970-01-02"), (2 * 86_400, "expires 1970-01-03")]
)
def test_a_key_says_when_it_ends(expires_s: int, ends: str) -> None:
    key = ClientKey(id="ci", sha256="ab", created_s=0, expires_s=expires_s, models=("qwen",), note="build server")
    expected = f"ci                key          machine  made 1970-01-01  {ends}  qwen  build server"
    assert render_key(key, "machine", 86_400) == expected


def test_the_guard_says_each_move_and_what_it_restored() -> None:
    move = GuardMove(resource=Resource.CPU, old="max", new="70 %", because="engines waited")
    step = GuardStep(state=STATE, move=move, remark="")
    assert render_step(step, dry_run=False) == "neighbours' cpu: max -> 70 %: engines waited"
    assert render_step(step, dry_run=True) == "would set neighbours' cpu: max -> 70 %: engines waited"
    quiet = GuardStep(state=STATE, move=None, remark="engines wait for themselves")
    assert render_step(quiet, dry_run=True) == "engines wait for themselves"
    assert step_object(quiet, at="T", dry_run=True) == {"at": "T", "dry_run": True, "remark": "engines wait for themselves"}
    assert step_object(step, at="T", dry_run=False)["new"] == "70 %"
    assert render_released(Released(files=(), drifted=())) == "no limit was set\n"
    assert render_released(Released(files=("a", "b"), drifted=("c changed",))) == "restored: a\nrestored: b\n"
    assert render_released(Released(files=(), drifted=("c changed",))) == ""


@pytest.mark.parametrize(
    ("kept", "text"),
    [
        (None, "not tried"),
        (97, "leaves 97 % of the speed of an undisturbed load; `tune` uses io.cost if this is 90 % or more"),
    ],
)
def test_a_disk_says_what_io_cost_leaves(kept: int | None, text: str) -> None:
    lines = render_device_speed(replace(SPEED, kept_pct=kept)).splitlines()
    assert lines[0].startswith("disk    ") and len(lines) == 6
    assert lines[-1] == f"io.cost {text}"


def test_a_recording_lists_its_files_and_what_it_lacks() -> None:
    manifest = {"denied": ["/proc/1/io"], "denied_names": [], "absent": ["/sys/a\x1bb"]}
    assert render_recorded(manifest, {"/proc/cpuinfo": 120}) == (
        "      120  /proc/cpuinfo\n   denied  /proc/1/io\n   absent  /sys/a?b\n"
    )
    assert render_replaced({}) == "no identifier"
    assert render_replaced({"MAC address": 2, "UUID": 1}) == "2 MAC address, 1 UUID"


def test_the_endpoint_is_a_command_that_can_be_pasted() -> None:
    text = render_endpoint(version="0.1", models="a, b", url="http://127.0.0.1:8080", model="a", question="Who?", tls=False)
    body = '{"model": "a", "messages": [{"role": "user", "content": "Who?"}]}'
    command = f"curl -s http://127.0.0.1:8080/v1/chat/completions -H 'Content-Type: application/json' -d '{body}'"
    who = "Anybody on this host can use it, without a key; other hosts cannot reach it."
    assert text == f"\nbedplate 0.1 serves a, b at http://127.0.0.1:8080\n\n  {command}\n\n{who}\n\n"
    closed = render_endpoint(version="0.1", models="a", url="https://h:1", model="a", question="Who?", tls=True)
    assert "curl -s --cacert ca.pem -H 'Authorization: Bearer KEY' https://h:1/v1/" in closed
    assert "only clients with a key (docs/how-to/keys-and-tls.md)" in closed


def test_sensitivities_stand_below_a_heading() -> None:
    row = {"antagonist": "cpu", "latency_slope": 0.5, "latency_low": 0.4, "latency_high": 0.6, "tail_slope": 1.25}
    assert render_sensitivities([row | {"rate_slope": -0.25, "pairs": 10}]) == (
        "neighbour                           median latency      p99  work lost  pairs   % for each % of noise\n"
        "cpu                         +0.50 (+0.40 to +0.60)    +1.25      -0.25     10\n"
    )


def test_the_log_of_tuning_lists_what_went_wrong_below_its_row() -> None:
    rows: list[dict[str, Any]] = [
        {"at": "T1", "what": "applied", "policy": "latency", "changes": [1, 2]},
        {"at": "T2", "what": "failed", "kind": "apply", "error": "no", "drifted": ["a", "b"]},
    ]
    assert render_log(rows) == "T1  applied  latency  2 settings\nT2  failed  apply  0 settings\n    no\n    a\n    b\n"
    assert render_log([]) == "The log is empty: no plan was applied on this host.\n"


@pytest.mark.parametrize(("last", "read"), [(None, b"a\nb\nc\n"), (2, b"b\nc\n"), (0, b""), (9, b"a\nb\nc\n")])
def test_a_log_has_plain_line_ends(tmp_path: Path, last: int | None, read: bytes) -> None:
    (tmp_path / "serial.log").write_bytes(b"a\r\nb\r\nc\r\n")
    assert b"".join(read_log(tmp_path / "serial.log", last=last)) == read


def test_a_log_is_followed_into_the_file_of_the_next_boot(tmp_path: Path) -> None:
    log, after = tmp_path / "serial.log", tmp_path / "next"
    log.write_bytes(b"first\r\n")
    pieces = read_log(log, follow=True)
    assert next(pieces) == b"first\n"
    with log.open("ab") as handle:
        handle.write(b"more\r\n")
    assert next(pieces) == b"more\n"
    after.write_bytes(b"second\r\n")
    after.rename(log)
    assert next(pieces) == b"second\n"


def test_a_selftest_shows_five_misses_and_counts_the_rest() -> None:
    miss = {"question": "Who?", "expected": "A", "got": "B", "problem": ""}
    record = {"asked": 9, "exact": 2, "misses": [miss | {"problem": "TimeoutError"}] + [miss] * 6, "elapsed_s": 1.25}
    lines = render_selftest(record | {"passed": False}).splitlines()
    assert lines[:6] == [
        "question: Who?",
        "expected: A",
        "got:      'TimeoutError'",
        "question: Who?",
        "expected: A",
        "got:      'B'",
    ]
    assert lines[15:] == ["... and 2 more (--json shows all)", "2 of 9 answers exact, 1.2 s: FAILED"]
    passed = {"asked": 9, "exact": 9, "misses": [], "elapsed_s": 3.0, "passed": True}
    assert render_selftest(passed) == "9 of 9 answers exact, 3.0 s: passed\n"


def test_the_commands_of_a_recovery_can_be_pasted() -> None:
    text = render_recovery(disk="a b.raw", out="blob", certificate="ab", offset_bytes=512, size_bytes=1024)
    assert text.startswith("blob: the recovery key of a b.raw, encrypted to the certificate with the SHA-256\nab\n\n")
    assert "openssl pkeyutl -decrypt -inkey recovery.key -in blob -out passphrase \\\n" in text
    assert "losetup --find --show --read-only --offset 512 --sizelimit 1024 'a b.raw'    # prints the device\n" in text


def test_an_address_in_a_page_ends_before_what_follows_it() -> None:
    text = "a thread, https://example.org/a/1; [b](https://example.org/b); <https://example.org/c>; https://example.org/d."
    assert link_addresses(text) == (
        "a thread, <https://example.org/a/1>; [b](https://example.org/b); <https://example.org/c>; <https://example.org/d>."
    )
