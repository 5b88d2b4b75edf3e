"""up, down and what goes wrong between them: real `bedplate` processes over fake QEMU and swtpm."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from bedplate.act.lock import hold_cache
from bedplate.act.paths import Paths
from bedplate.cli.terminal import terminal_progress
from tests.machine_lifecycle.conftest import VERSION, FakeHost


def test_up_serves_answers_and_down_leaves_nothing(host: FakeHost) -> None:
    up = host.up()
    assert up.returncode == 0, up.stderr
    assert f"http://127.0.0.1:{host.port}" in up.stdout
    assert "curl -s" in up.stdout
    assert "An operating system." in up.stdout
    assert "boot and load the model: done" in up.stderr
    assert len(host.processes()) == 2
    down = host.run("down")
    assert (down.returncode, down.stdout) == (0, "The machine is off.\n"), down.stderr
    assert host.processes() == []
    assert not (host.machine / "machine.json").exists()
    assert not list(host.machine.glob("*.sock"))
    assert host.run("down").stdout == "No machine is running.\n"


def test_up_as_json_is_one_object(host: FakeHost) -> None:
    record = json.loads(host.up("--json").stdout)
    assert record["answer"] == "An operating system."
    assert record["image"] == VERSION
    assert not record["already_up"]
    assert [phase["name"] for phase in record["phases"]][:2] == ["preflight", "models"]


def test_a_second_up_says_that_it_is_up(host: FakeHost) -> None:
    assert host.up("--no-ask").returncode == 0
    second = host.up()
    assert second.returncode == 0, second.stderr
    assert "The machine is already running" in second.stdout
    assert len(host.calls("qemu-system-x86_64")) == 1


def test_a_second_up_that_asks_for_another_machine_says_what_differs(host: FakeHost) -> None:
    assert host.up("--no-ask").returncode == 0
    options = ("--memory", "2G", "--cpus", "3", "--secure-boot", "--model", "other", "--open-network", "--fresh")
    second = host.run("up", *options, "--engine", "/etc/hostname")
    assert second.returncode == 5, second.stderr
    for said in (
        "--memory 2.0 GiB is asked for, it has 1.0 GiB",
        "--cpus 3 is asked for, it has 1",
        "boot secure is asked for, it has direct",
        "--model other is asked for, it serves tiny",
        "its network is closed",
        "--engine /etc/hostname is asked for",
        "--fresh is given",
        "bedplate down",
    ):
        assert said in second.stderr
    assert len(host.processes()) == 2  # the machine that runs goes on
    assert host.run("up", "--uefi").returncode == 5
    assert host.run("up", "--memory", "1G", "--no-ask").returncode == 0  # what it has
    assert host.run("up").returncode == 0  # no option asks for nothing


def test_a_machine_that_still_boots_is_not_taken_over_for_another_one(host: FakeHost) -> None:
    host.behave("hang")
    process = host.start(*host.up_argv())
    host.wait_for(host.machine / "qmp.sock", process=process)
    process.kill()
    process.communicate()
    again = host.up("--memory", "2G")
    assert again.returncode == 5
    assert "--memory" in again.stderr
    assert len(host.processes()) == 2


def test_two_ups_at_once_start_one_machine(host: FakeHost) -> None:
    host.behave("hang")
    first = host.start(*host.up_argv())
    host.wait_for(host.machine / "qmp.sock", process=first)
    second = host.up()
    assert second.returncode == 5, second.stderr
    assert "bedplate up" in second.stderr
    assert str(first.pid) in second.stderr
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=20)
    assert len(host.calls("qemu-system-x86_64")) == 1


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ending_up_while_it_boots_leaves_no_process(host: FakeHost, signum: signal.Signals) -> None:
    host.behave("hang")
    process = host.start(*host.up_argv())
    host.wait_for(host.machine / "qmp.sock", process=process)
    process.send_signal(signum)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130, errors
    assert "interrupted" in errors  # of which phase is not told when it came between two of them
    assert host.processes() == []
    assert not (host.machine / "machine.json").exists()
    host.behave("serve")
    assert host.up("--no-ask").returncode == 0


@pytest.mark.parametrize("moment", ["overlay.qcow2", "tpm", "swtpm.log", "tpm.sock", "machine.json", "qemu.log"])
def test_ctrl_c_at_any_moment_leaves_no_process(host: FakeHost, moment: str) -> None:
    host.behave("hang")
    process = host.start(*host.up_argv())
    host.wait_for(host.machine / moment, process=process)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130
    assert host.processes() == []


def test_a_killed_up_is_taken_over_by_the_next(host: FakeHost) -> None:
    host.behave("hang")
    process = host.start(*host.up_argv())
    host.wait_for(host.machine / "qmp.sock", process=process)
    process.kill()
    process.communicate()
    assert len(host.processes()) == 2
    again = host.up("--timeout", "1")
    assert again.returncode == 1
    assert "taking it over" in again.stderr
    assert "did not serve within 1 s" in again.stderr
    assert host.processes() == []


def test_a_killed_up_is_ended_by_down(host: FakeHost) -> None:
    host.behave("hang")
    process = host.start(*host.up_argv())
    host.wait_for(host.machine / "qmp.sock", process=process)
    process.kill()
    process.communicate()
    assert host.run("down", "--now").returncode == 0
    assert host.processes() == []


def test_a_machine_that_was_killed_is_cleared_away(host: FakeHost) -> None:
    assert host.up("--no-ask").returncode == 0
    for pid in host.processes():
        os.kill(pid, signal.SIGKILL)
    assert host.run("status").returncode == 4
    again = host.up("--no-ask")
    assert again.returncode == 0, again.stderr
    assert "had stopped by itself" in again.stderr


def test_a_process_that_reused_the_id_is_never_touched(host: FakeHost) -> None:
    assert host.up("--no-ask").returncode == 0
    state = json.loads((host.machine / "machine.json").read_text())
    for pid in host.processes():
        os.kill(pid, signal.SIGKILL)
    with subprocess.Popen(["sleep", "60"]) as stranger:
        for name in ("qemu", "tpm"):
            state[name]["pid"] = stranger.pid  # same id, another start time
        (host.machine / "machine.json").write_text(json.dumps(state))
        assert host.run("down").stdout == "No machine is running.\n"
        assert stranger.poll() is None
        stranger.kill()


def test_a_dead_qemu_names_the_phase_and_its_last_words(host: FakeHost) -> None:
    host.behave("die")
    up = host.up()
    assert up.returncode == 1
    assert "error: start the machine:" in up.stderr
    assert "tpm-crb: no such thing" in up.stderr
    assert "hint: Read" in up.stderr
    assert host.processes() == []


def test_a_panic_of_the_guest_is_seen_at_once(host: FakeHost) -> None:
    host.behave("panic")
    started = time.monotonic()
    up = host.up()
    assert up.returncode == 1
    assert "boot and load the model: the guest's kernel panicked" in up.stderr
    assert "not syncing: no root" in up.stderr
    assert time.monotonic() - started < 15
    assert host.processes() == []


def test_an_engine_that_the_guest_gives_up_ends_the_wait_with_its_own_line(host: FakeHost) -> None:
    host.behave("failed")
    up = host.up()
    assert up.returncode == 1
    assert (
        "the engine of known-answer failed: it ended with status 1: error: unknown model architecture: 'flux'" in up.stderr
    )
    assert host.processes() == []


def test_a_machine_that_is_never_ready_is_ended_at_the_limit(host: FakeHost) -> None:
    host.behave("busy")
    up = host.up("--timeout", "1")
    assert up.returncode == 1
    assert "did not serve within 1 s" in up.stderr
    assert "--timeout 2" in up.stderr
    assert host.processes() == []


def test_keep_leaves_a_failed_machine_to_look_at(host: FakeHost) -> None:
    host.behave("busy")
    assert host.up("--timeout", "1", "--keep").returncode == 1
    assert len(host.processes()) == 2
    assert host.run("down", "--now").returncode == 0


def test_an_empty_answer_is_a_failure(host: FakeHost) -> None:
    host.behave("mute")
    up = host.up()
    assert up.returncode == 1
    assert "the answer was empty" in up.stderr
    assert host.processes() == []


def test_a_port_in_use_is_refused_before_anything_starts(host: FakeHost) -> None:
    with socket.create_server(("127.0.0.1", host.port)):
        up = host.up()
    assert up.returncode == 3
    assert f"port {host.port} of 127.0.0.1: in use by process {os.getpid()}" in up.stderr
    assert "--port" in up.stderr
    assert host.calls("qemu-system-x86_64") == []


def test_all_that_is_wrong_with_a_host_is_said_at_once(host: FakeHost) -> None:
    host.env["BEDPLATE_PATH_PREFIX"] = str(host.root / "empty")
    with socket.create_server(("127.0.0.1", host.port)):
        up = host.run(*host.up_argv("--memory", "100000G"))
    assert up.returncode == 3
    assert f"port {host.port}" in up.stderr
    assert "memory:" in up.stderr


def test_a_model_that_does_not_fit_is_refused_with_the_arithmetic(host: FakeHost) -> None:
    host.write_models(size_bytes=3 * 1024**3)
    up = host.up()
    assert up.returncode == 1
    assert "tiny: does not fit" in up.stderr
    assert "3.0 GiB weights" in up.stderr
    assert "--memory" in up.stderr
    assert host.calls("qemu-system-x86_64") == []


@pytest.mark.parametrize(("lost", "told"), [("bedplate.raw", "bedplate.raw is missing"), ("manifest.json", "its manifest")])
def test_an_image_that_lost_a_file_is_refused_and_can_be_removed(host: FakeHost, lost: str, told: str) -> None:
    (host.state / "images" / VERSION / lost).unlink()
    up = host.up()
    assert up.returncode == 1
    assert told in up.stderr
    assert f"hint: Remove it: bedplate image rm {VERSION}" in up.stderr
    assert host.calls("qemu-system-x86_64") == []
    assert host.run("image", "rm", VERSION).returncode == 0
    assert "no such image" in host.up().stderr


def test_a_deaf_guest_is_ended_by_force(host: FakeHost) -> None:
    host.behave("deaf")
    assert host.up("--no-ask").returncode == 0
    down = host.run("down", "--timeout", "1")
    assert down.returncode == 0
    assert "did not power off within 1 s" in down.stderr
    assert host.processes() == []


def test_a_guest_that_missed_its_power_button_is_asked_again(host: FakeHost) -> None:
    host.behave("drowsy")
    assert host.up("--no-ask").returncode == 0
    down = host.run("down")
    assert down.returncode == 0
    assert "by force" not in down.stderr
    assert host.processes() == []


def test_the_disk_goes_on_until_fresh_is_asked_for(host: FakeHost) -> None:
    assert host.up("--no-ask").returncode == 0
    assert host.run("down").returncode == 0
    overlay = host.machine / "overlay.qcow2"
    overlay.write_text("what the guest wrote")
    assert host.up("--no-ask").returncode == 0
    assert host.run("down").returncode == 0
    assert overlay.read_text() == "what the guest wrote"
    assert host.up("--no-ask", "--fresh").returncode == 0
    assert overlay.read_text() != "what the guest wrote"


def test_a_disk_that_is_replaced_is_said_and_why(host: FakeHost) -> None:
    assert "new disk" not in host.up("--no-ask").stderr  # the first one replaces none
    assert host.run("down").returncode == 0
    state = host.machine / "disk.json"
    state.write_text(state.read_text().replace("direct", "secure"))
    up = host.up("--no-ask")
    assert up.returncode == 0
    assert "new disk and TPM, and its /var is empty: boot mode was secure, now direct" in up.stderr


@pytest.mark.parametrize("damage", ["", "12", None])
def test_a_lost_uuid_costs_no_disk(host: FakeHost, damage: str | None) -> None:
    """A power cut can leave a file without its content; QEMU refused the empty UUID, for good."""
    assert host.up("--no-ask").returncode == 0
    assert host.run("down").returncode == 0
    overlay, file = host.machine / "overlay.qcow2", host.machine / "uuid"
    before = overlay.stat().st_ino
    file.unlink()
    if damage is not None:
        file.write_text(damage)
    up = host.up("--no-ask")
    assert up.returncode == 0, up.stderr
    assert "holds no UUID: the machine gets a new UUID" in up.stderr
    assert overlay.stat().st_ino == before
    argv = host.calls("qemu-system-x86_64")[-1]
    assert argv[argv.index("-uuid") + 1] == file.read_text()
    assert len(file.read_text()) == 36


def test_status_ask_logs_and_shell_speak_to_the_machine(host: FakeHost) -> None:
    assert host.run("status").returncode == 4
    assert host.run("ask", "x").returncode == 4
    assert host.up("--no-ask").returncode == 0
    status = json.loads(host.run("status", "--json").stdout)
    assert (status["running"], status["health"], status["models"]) == (True, 200, ["tiny"])
    assert host.run("ask", "what?").stdout == "An operating system.\n"
    assert json.loads(host.run("ask", "--json", "what?").stdout)["answer"] == "An operating system."
    assert "Starting the fake guest" in host.run("logs").stdout
    assert "serial" in host.run("logs", "--list").stdout
    shell = host.run("shell", "-c", "uname -a")
    assert (shell.returncode, shell.stdout) == (3, "ran: uname -a\n"), shell.stderr


def test_clean_refuses_while_the_machine_runs_and_keeps_the_keys(host: FakeHost) -> None:
    (host.state / "keys").mkdir()
    (host.state / "keys/owner.key").write_text("secret")
    assert host.up("--no-ask").returncode == 0
    refused = host.run("clean", "--yes")
    assert refused.returncode == 5
    assert "bedplate down" in refused.stderr
    unasked = host.run("clean", "--down")
    assert unasked.returncode == 2
    assert "--yes" in unasked.stderr
    assert host.run("clean", "--yes").returncode == 0
    assert (host.state / "keys/owner.key").read_text() == "secret"
    assert [path.name for path in host.cache.iterdir()] == ["lock"]
    assert host.run("clean", "--yes", "--keys").returncode == 0
    assert [path.name for path in host.state.iterdir()] == ["lock"]


def test_clean_refuses_while_another_state_directory_builds_in_the_cache(host: FakeHost, tmp_path: Path) -> None:
    other = Paths(cache=host.cache, state=tmp_path / "other")
    (host.cache / "work").mkdir()
    with terminal_progress() as progress, hold_cache(other, progress, what="the build of an image"):
        lock = (host.cache / "lock").stat().st_ino
        refused = host.run("clean", "--yes")
        assert refused.returncode == 5
        assert f"{host.cache}: used by the build of an image (process {os.getpid()}" in refused.stderr
        assert (host.cache / "work").is_dir()
    assert host.run("clean", "--yes").returncode == 0
    assert not (host.cache / "work").exists()
    assert (host.cache / "lock").stat().st_ino == lock


def test_a_models_disk_is_made_when_the_cache_is_free(host: FakeHost, tmp_path: Path) -> None:
    other = Paths(cache=host.cache, state=tmp_path / "other")
    with terminal_progress() as progress, hold_cache(other, progress, what="the build of an image"):
        up = host.start(*host.up_argv("--no-ask"))
        assert up.stderr is not None
        said = next((line for line in up.stderr if "waiting for it to end" in line), None)
        assert said is not None and f"{host.cache}: used by the build of an image" in said
        assert not list(host.cache.glob("models-disk/*/*.erofs"))
    up.communicate(timeout=60)
    assert up.returncode == 0
    assert len(list(host.cache.glob("models-disk/*/*.erofs"))) == 1


def test_the_models_disk_of_another_state_directory_stays_while_that_is_there(host: FakeHost, other_host: FakeHost) -> None:
    """One machine's disk was removed by the other's `up`, before or while QEMU opened it."""
    assert host.up("--no-ask").returncode == 0
    (disk,) = host.cache.glob("models-disk/*/*.erofs")
    assert other_host.up("--no-ask").returncode == 0
    assert disk.is_file()
    assert len(list(host.cache.glob("models-disk/*/*.erofs"))) == 2
    assert other_host.run("down").returncode == 0
    shutil.rmtree(other_host.state)
    assert host.run("down").returncode == 0
    host.write_models(size_bytes=2048)
    assert host.up("--no-ask").returncode == 0
    (left,) = host.cache.glob("models-disk/*/*.erofs")
    assert left.parent == disk.parent and left != disk


def test_a_state_file_of_something_else_is_named(host: FakeHost) -> None:
    host.machine.mkdir()
    (host.machine / "machine.json").write_text("{")
    status = host.run("status")
    assert status.returncode == 1
    assert "machine.json: not the state of a machine" in status.stderr
