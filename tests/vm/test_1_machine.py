"""One machine booted through the whole chain, looked at from outside and from inside."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bedplate.act.run import run
from bedplate.errors import CommandError
from bedplate.image.machine import read_health
from bedplate.image.manifest import Image
from bedplate.image.qemu import SERIAL_LOG, swtpm_setup_argv
from bedplate.image.tools import tools_command
from tests.conftest import BOOT_S, ONE_WORD_MODELS, RECOVERY, SECOND_NAME, Bedplate

pytestmark = pytest.mark.vm

CHECKS = Path(__file__).with_name("guest_checks.sh")
BUSY_REQUESTS = 3  # of each of two clients; while they last, the boot has a fifth of the CPU
FIRST_BOOT_S = 2400.0  # beside a busy engine and other guests; a stuck boot never ends
SNAPSHOT = Path(__file__).with_name("snapshot.py")
PLACE = "/run/tuning-test"  # of the guest
# The log of what was done stays; undo keeps it.
LOG = re.compile(r"/(run|var/lib)/bedplate(/tune(/log.*)?)?")


def post(machine: Bedplate, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(
        f"http://127.0.0.1:{machine.port}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    return urllib.request.urlopen(request, timeout=BOOT_S)


def test_the_answer_is_streamed_to_the_outside(machine: Bedplate) -> None:
    body = {
        "model": "known-answer",
        "stream": True,
        "temperature": 0,
        "messages": [{"role": "user", "content": "What is NUMA?"}],
    }
    with post(machine, body) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        events = [line for line in answer.read().decode().splitlines() if line.startswith("data: {")]
    pieces = [json.loads(event[6:])["choices"][0]["delta"].get("content") or "" for event in events if '"choices"' in event]
    assert len(events) > 8  # token by token, not in one piece
    assert "memory" in "".join(pieces).lower()


def answer_of(machine: Bedplate, model: str, question: str) -> str:
    with post(
        machine, {"model": model, "max_tokens": 12, "temperature": 0, "messages": [{"role": "user", "content": question}]}
    ) as answer:
        record = json.loads(answer.read())
    assert record["model"] == model
    return str(record["choices"][0]["message"]["content"])


def test_each_of_four_models_answers_as_itself(machine: Bedplate) -> None:
    for model, word in ONE_WORD_MODELS.items():
        assert answer_of(machine, model, "What is NUMA?") == word * 12
    answers = [answer_of(machine, model, "What is NUMA?") for model in ("known-answer", SECOND_NAME)]
    assert answers[0].startswith("NUMA is non-uniform memory access") and answers[0] == answers[1]


def test_models_that_leave_change_or_do_not_fit_cost_no_request_of_the_others(machine: Bedplate) -> None:
    """As after `model rm`, and with another or a larger model of the same name: the index that a changed disk would have."""
    wait_console(machine)
    with asked_meanwhile(machine, "Other_word.v2") as answers:
        rows = {row["name"]: row for row in read_index(machine)["models"]}
        here = {key: rows["known-answer"][key] for key in ("sha256", "path")}
        with changed_index(machine, {"one-word": here | {"size_bytes": 1 << 40}}, without=SECOND_NAME):
            prepared = machine("shell", "--timeout", "600", "-c", "bedplate serve prepare", timeout_s=900, ok=False)
        assert prepared.returncode == 1 and "one-word: does not fit" in prepared.stdout, prepared.stdout
        for model in (SECOND_NAME, "one-word"):
            with pytest.raises(urllib.error.HTTPError) as caught:
                answer_of(machine, model, "hello")
            with caught.value as answer:
                assert (answer.status, json.loads(answer.read())["error"]["code"]) == (404, "model_not_found")
        other = {key: value for key, value in rows["Other_word.v2"].items() if key != "name"}
        with changed_index(machine, {"one-word": other}):
            machine.shell("bedplate serve prepare")
            wait_health(machine)
            assert answer_of(machine, "one-word", "hello") == "beta" * 12
        machine.shell("bedplate serve prepare")
        wait_health(machine)
        assert answer_of(machine, "one-word", "hello") == "alpha" * 12
        assert answer_of(machine, SECOND_NAME, "What is NUMA?").startswith("NUMA is non-uniform memory access")
        machine.shell("until mountpoint -q /var; do sleep 1; done")
        said = machine.shell(f"bedplate model add /run/bedplate/models/{rows['one-word']['path']} --name on-var")
        assert "bedplate serve prepare" in said
        machine.shell("bedplate serve prepare")
        wait_health(machine)
        assert answer_of(machine, "on-var", "hello") == "alpha" * 12
        machine.shell("bedplate model rm on-var; bedplate serve prepare")
    assert len(answers) > 3 and set(answers) == {"beta" * 12}, answers


def read_index(machine: Bedplate) -> dict[str, Any]:
    index: dict[str, Any] = json.loads(machine.shell("cat /run/bedplate/models/index.json"))
    return index


@contextlib.contextmanager
def changed_index(machine: Bedplate, changes: dict[str, dict[str, object]], *, without: str = "") -> Iterator[None]:
    """The models disk lists these models with other fields, and one model not at all."""
    index = read_index(machine)
    rows = [row | changes.get(row["name"], {}) for row in index["models"] if row["name"] != without]
    text = json.dumps(index | {"models": rows})
    machine.shell(f"cat >/run/index.json <<'END'\n{text}\nEND\nmount --bind /run/index.json /run/bedplate/models/index.json")
    yield
    machine.shell("umount /run/bedplate/models/index.json")


@contextlib.contextmanager
def asked_meanwhile(machine: Bedplate, model: str) -> Iterator[list[str]]:
    """A client that asks this model again and again; the list gets each answer, or what went wrong instead."""
    over = threading.Event()
    answers: list[str] = []

    def work() -> None:
        while not over.wait(2):
            try:
                answers.append(answer_of(machine, model, "hello"))
            except (OSError, AssertionError) as error:
                answers.append(repr(error))

    client = threading.Thread(target=work)
    client.start()
    try:
        yield answers
    finally:
        over.set()
        client.join()


def wait_health(machine: Bedplate) -> None:
    """Wait until each model of the machine has made a token."""
    deadline = time.monotonic() + FIRST_BOOT_S
    while read_health(machine.port) != 200:
        assert time.monotonic() < deadline, machine("status", ok=False).stdout
        time.sleep(1)


def wait_console(machine: Bedplate) -> None:
    """Its unit is one of the last of a boot; four engines on one emulated CPU serve before that."""
    deadline = time.monotonic() + FIRST_BOOT_S
    while machine("shell", "--timeout", "60", "-c", "true", timeout_s=300, ok=False).returncode != 0:
        assert time.monotonic() < deadline, f"no console after {FIRST_BOOT_S} s"


def test_errors_are_told_in_the_form_clients_know(machine: Bedplate) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        post(machine, {"model": "no-such-model", "messages": []})
    with caught.value as answer:
        assert answer.status == 404
        assert json.loads(answer.read())["error"]["code"]


def test_a_first_boot_ends_though_the_engine_is_kept_busy(machine: Bedplate) -> None:
    """Weights must not starve what partitions the disk and unlocks /var: it timed out once, in emergency mode."""
    over = threading.Event()

    def keep_busy() -> None:
        body = {"model": "known-answer", "max_tokens": 64, "messages": [{"role": "user", "content": "Tell me about NUMA."}]}
        for _ in range(BUSY_REQUESTS):
            if over.is_set():
                return
            with contextlib.suppress(OSError), post(machine, body) as answer:
                answer.read()

    clients = [threading.Thread(target=keep_busy) for _ in range(2)]
    for client in clients:
        client.start()
    try:
        deadline = time.monotonic() + FIRST_BOOT_S
        state = "unknown"
        while state != "running":
            assert time.monotonic() < deadline, f"the system is {state} after {FIRST_BOOT_S} s"
            done = machine("shell", "--timeout", "60", "-c", "systemctl is-system-running", timeout_s=300, ok=False)
            state = done.stdout.strip() or "without a console"
    finally:
        over.set()
        for client in clients:
            client.join()


def test_the_guest_vouches_for_itself(machine: Bedplate, manifest: dict[str, Any]) -> None:
    """A script inside checks everything that only the inside knows and says one word when all of it holds."""
    expected = bytes.fromhex(manifest["pcr11"])
    for phase in ("sysinit", "ready"):
        expected = hashlib.sha256(expected + hashlib.sha256(phase.encode()).digest()).digest()
    script = CHECKS.read_text().replace("@PCR11@", expected.hex()).replace("@KERNEL@", manifest["kernel"])
    said = machine.shell(f"cat >/run/checks <<'END'\n{script}\nEND\nsh /run/checks")
    assert said.rstrip().endswith("ALL CHECKS HOLD"), said


def test_status_inside_and_outside(machine: Bedplate, image: Image) -> None:
    outside = json.loads(machine("status", "--json").stdout)
    assert image.version in json.dumps(outside)
    inside = machine.shell("bedplate status")
    assert image.version in inside
    assert "Secure Boot on" in inside
    assert "verity on" in inside


def test_a_killed_engine_comes_back_and_answers(machine: Bedplate) -> None:
    before = machine.shell("systemctl show -P MainPID bedplate-engine@known-answer").strip()
    machine.shell("systemctl kill --signal=KILL bedplate-engine@known-answer")
    answer = machine.wait_answer("What is a UKI?", limit_s=180)
    assert "kernel" in answer.lower()
    after = machine.shell("systemctl show -P MainPID bedplate-engine@known-answer").strip()
    assert before != after


def engines(machine: Bedplate) -> dict[str, Any]:
    """What the supervisor says of each engine."""
    text = machine.shell("bedplate status --json || true")  # its status says whether all models are served
    found: dict[str, Any] = json.loads(text[text.index('{"schema"') :])["engines"]  # the console may have spoken before it
    return found


def wait_engine(machine: Bedplate, instance: str, state: str) -> dict[str, Any]:
    deadline = time.monotonic() + FIRST_BOOT_S
    while (found := engines(machine).get(instance, {})).get("state") != state:
        assert time.monotonic() < deadline, found
        time.sleep(2)
    return dict(found)


def test_a_stuck_engine_is_ended_and_serves_again(machine: Bedplate) -> None:
    wait_engine(machine, "one-word", "serving")
    before = machine.shell("systemctl show -P MainPID bedplate-engine@one-word").strip()
    machine.shell("systemctl kill --kill-whom=all --signal=STOP bedplate-engine@one-word")
    deadline = time.monotonic() + FIRST_BOOT_S
    while machine.shell("systemctl show -P MainPID bedplate-engine@one-word").strip() == before:
        assert time.monotonic() < deadline, engines(machine)
        time.sleep(2)
    found = wait_engine(machine, "one-word", "serving")
    assert found["stuck"] == 1 and "no progress" in found["because"]
    assert answer_of(machine, "one-word", "hello") == "alpha" * 12
    assert "one-word: serving (serves again; before that it made no progress" in machine.shell("bedplate status")


def test_an_engine_that_cannot_serve_its_model_is_given_up_with_its_own_line(machine: Bedplate) -> None:
    machine.shell(
        "ln -sfn /etc/os-release /run/bedplate/engine/one-word.model; systemctl restart --no-block bedplate-engine@one-word"
    )
    found = wait_engine(machine, "one-word", "failed")
    assert found["ended"] >= 3 and "it ended with status" in found["because"]
    assert machine.shell("systemctl show -P ActiveState bedplate-engine@one-word").strip() in ("inactive", "failed")
    assert "bedplate: engine one-word failed: it ended with status" in (machine.paths.machine / SERIAL_LOG).read_text(
        errors="replace"
    )
    assert answer_of(machine, "Other_word.v2", "hello") == "beta" * 12
    machine.shell("bedplate serve prepare")
    wait_engine(machine, "one-word", "serving")
    assert answer_of(machine, "one-word", "hello") == "alpha" * 12


def test_a_service_that_the_user_adds_is_a_neighbour_unless_it_says_otherwise(machine: Bedplate) -> None:
    unit = "[Service]\\nExecStart=/bin/sleep 600\\n"
    web, scan = "/etc/systemd/system/web.service", "/run/systemd/system/scan.service"
    add = f"printf '{unit}' >{web}; printf '{unit}Slice=background.slice\\n' >{scan}; systemctl daemon-reload"
    said = machine.shell(f"{add}; systemctl start web scan; systemctl show -P ControlGroup web scan")
    machine.shell(f"systemctl stop web scan; rm {web} {scan}; systemctl daemon-reload")
    assert said.split() == ["/neighbour.slice/web.service", "/background.slice/scan.service"]


def test_tuning_by_hand_is_verified_and_undone_to_the_last_value(machine: Bedplate) -> None:
    """What the boot applied is taken back first, so that the machine is as its image makes it; then as on any other."""
    machine.shell(f"mkdir -p {PLACE}; cat >{PLACE}/snapshot.py <<'END'\n{SNAPSHOT.read_text()}\nEND\n")
    machine.shell("bedplate tune undo; systemd-run --quiet --unit=neighbour --slice=neighbour.slice sleep 3600")
    _take(machine, "quiet-a")
    machine.shell("systemctl daemon-reload; bedplate tune plan >/dev/null")
    machine.wait_answer("What is a UKI?", limit_s=180)
    _take(machine, "quiet-b")
    machine.shell("bedplate tune apply")
    _take(machine, "applied")
    machine.shell("bedplate tune verify")
    changed = _differences(machine, "quiet-b", "applied")
    assert "/sys/fs/cgroup/neighbour.slice/memory.high" in changed, changed  # computed from what the engine holds
    machine.shell("bedplate tune undo")
    _take(machine, "undone")
    assert _differences(machine, "quiet-b", "undone") == {}
    machine.shell("systemctl stop neighbour; bedplate tune apply --boot")
    machine.wait_answer("What is a UKI?", limit_s=180)


def _take(machine: Bedplate, name: str) -> None:
    """Write down every file and value of the guest."""
    machine.shell(f"python3 {PLACE}/snapshot.py write {PLACE}/{name}.json")


def _differences(machine: Bedplate, before: str, after: str) -> dict[str, list[str | None]]:
    files = " ".join(f"{PLACE}/{name}.json" for name in (before, after, "quiet-a", "quiet-b"))
    found = json.loads(machine.shell(f"python3 {PLACE}/snapshot.py compare {files}"))
    return {path: texts for path, texts in found.items() if LOG.fullmatch(path) is None}


def test_a_second_up_says_that_it_is_up(machine: Bedplate) -> None:
    assert "already running" in machine("up").stdout


def test_poweroff_from_inside_is_clean_and_leaves_no_process(machine: Bedplate) -> None:
    pids = [process["pid"] for process in _processes(machine)]
    assert len(pids) == 2, "QEMU and swtpm"
    machine("shell", "-c", "systemctl poweroff", ok=False)
    machine("down", timeout_s=180)
    assert [pid for pid in pids if runs(pid)] == []
    log = (machine.paths.machine / "serial.log").read_text(errors="replace")
    assert "Failed" not in log.rpartition("Reached target")[2]


@pytest.fixture(scope="module")
def disk(machine: Bedplate, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is on the machine's disk after it was powered off, as another host gets it: a raw image."""
    raw = tmp_path_factory.mktemp("taken") / "disk.raw"
    run(["qemu-img", "convert", "-O", "raw", machine.paths.machine / "overlay.qcow2", raw], timeout_s=300)
    return raw


def test_the_owner_of_the_recovery_key_opens_var_on_another_host(machine: Bedplate, disk: Path) -> None:
    place = machine.paths.state / "recovered"  # the tools tree sees it
    place.mkdir()
    blob, passphrase, head = place / "blob", place / "passphrase", place / "head"
    var = json.loads(machine("var", "blob", str(disk), "--out", str(blob), "--json").stdout)
    shutil.copy(RECOVERY / "private.key", place)
    decrypt: list[str | os.PathLike[str]] = [
        "openssl",
        "pkeyutl",
        "-decrypt",
        "-inkey",
        place / "private.key",
        "-in",
        blob,
        "-out",
        passphrase,
    ]
    for option in ("rsa_padding_mode:oaep", "rsa_oaep_md:sha256", "rsa_mgf1_md:sha256"):
        decrypt += ["-pkeyopt", option]
    run(tools_command(machine.paths, decrypt), timeout_s=60)
    with disk.open("rb") as whole:
        whole.seek(var["offset_bytes"])
        head.write_bytes(whole.read(32 << 20))  # header and key slots: nothing else is needed to say whether a key opens it
    opens: list[str | os.PathLike[str]] = ["cryptsetup", "open", "--test-passphrase", "--key-file", passphrase, head]
    run(tools_command(machine.paths, opens), timeout_s=120)
    key = passphrase.read_text()
    passphrase.write_text(key[:-1] + ("c" if key[-1] != "c" else "b"))
    with pytest.raises(CommandError):
        run(tools_command(machine.paths, opens), timeout_s=120)
    logs = [file for file in [*machine.paths.logs.iterdir(), *machine.paths.machine.glob("*.log")] if file.is_file()]
    assert [file for file in logs if key in file.read_text(errors="replace")] == []


def test_a_machine_whose_var_does_not_open_says_why_and_serves(machine: Bedplate, image: Image, disk: Path) -> None:
    """Another TPM, as after a new mainboard. It asked for a password that nobody has, and served nothing."""
    assert disk.exists()  # taken before this boot
    place = machine.paths.machine
    shutil.rmtree(place / "tpm")
    (place / "tpm").mkdir()
    run(swtpm_setup_argv("swtpm_setup"), timeout_s=60, cwd=place)
    arguments = ("--secure-boot", "--json", "--port", str(machine.port), "--timeout", str(BOOT_S), "--image", image.version)
    assert json.loads(machine("up", *arguments, timeout_s=BOOT_S + 300).stdout)["answer"]
    try:
        deadline = time.monotonic() + BOOT_S
        log = place / "serial.log"
        while "bedplate: /var is missing: " not in (text := log.read_text(errors="replace")):
            assert time.monotonic() < deadline, text[-3000:]
            time.sleep(1)
        assert "another TPM" in text
        assert "What needs no /var is served." in text
        said = machine.shell("systemctl show -P ActiveState emergency.target multi-user.target; cat /proc/mounts")
        assert said.split()[:1] == ["inactive"]
        assert " /var " not in said
        assert machine.wait_answer("What is a UKI?", limit_s=180)
    finally:
        machine("down", timeout_s=180)


def runs(pid: int) -> bool:
    """Whether it runs; one that has ended and that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _processes(machine: Bedplate) -> list[dict[str, Any]]:
    record = json.loads((machine.paths.machine / "machine.json").read_text())
    return [record[name] for name in ("qemu", "tpm") if record.get(name)]
