"""A production guest: nobody without a key is answered at any moment of its first boot, and a key of the image is good.

The front end is asked all the time from the start of QEMU on, so that its first second is among what is seen.
"""

from __future__ import annotations

import http.client
import json
import re
import shutil
import ssl
import threading
import time
from pathlib import Path

import pytest

from bedplate.act.paths import Paths
from bedplate.cli.terminal import terminal_progress
from bedplate.flows.preflight import ensure_ready
from bedplate.image.keys import ensure_keys
from bedplate.image.machine import Machine, kill_machine, start_machine, wait_ready
from bedplate.image.manifest import Image, read_image
from bedplate.image.models_disk import ensure_models_disk
from bedplate.image.qemu import SERIAL_LOG, BootOptions
from bedplate.model.buildhost import Wishes
from bedplate.model.launch import KNOWN_ANSWER
from bedplate.model.machine import AccelChoice, BootMode
from bedplate.model.units import GIB
from bedplate.weights.store import Store
from tests.conftest import BOOT_S, BUILD_S, Bedplate, free_port
from tests.vm.test_4_production import MODEL

pytestmark = [pytest.mark.vm, pytest.mark.long]

CHAT = {"model": KNOWN_ANSWER, "messages": [{"role": "user", "content": "What is bedplate?"}], "max_tokens": 8}


def ask(port: int, path: str, body: object, key: str | None) -> tuple[int, dict[str, object]]:
    """Status and JSON of a request; the certificate is not verified, since a first boot has one that nobody knows."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=120)
    try:
        headers = {"Authorization": f"Bearer {key}"} if key is not None else {}
        connection.request("POST" if body is not None else "GET", path, json.dumps(body) if body else None, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def code_of(port: int, key: str | None) -> str:
    """The code of the error that an inference request gets; "" where nothing answers yet."""
    try:
        status, answer = ask(port, "/v1/chat/completions", CHAT, key)
    except (OSError, http.client.HTTPException):
        return ""
    error = answer.get("error")
    return str(error["code"]) if isinstance(error, dict) else f"answered with {status}"


def start(paths: Paths, image: Image, engine: Path) -> Machine:
    with terminal_progress() as progress:
        wishes = Wishes(build=False, guest_memory_bytes=2 * GIB, secure_boot=False, uefi=False, tpm=True, mirror=None)
        port = free_port()
        ready = ensure_ready(paths, wishes, progress, port=port, choice=AccelChoice.AUTO, install=False)
        model = Store(paths.models).add(MODEL, progress=progress, name=KNOWN_ANSWER)
        options = BootOptions(
            mode=BootMode.DIRECT,
            accel=ready.accel,
            port=port,
            cpus=1,
            engine=str(engine),
            models=str(ensure_models_disk(paths, [model], progress, keys=ensure_keys(paths))),
        )
        return start_machine(paths, image, options, ready.programs, progress, models=(KNOWN_ANSWER,))


def test_nobody_without_a_key_is_answered_at_any_moment_of_a_first_boot(
    bedplate: Bedplate, image: Image, tmp_path_factory: pytest.TempPathFactory
) -> None:
    paths = Paths(cache=bedplate.paths.cache, state=tmp_path_factory.mktemp("closed"))
    shutil.copytree(bedplate.paths.keys, paths.keys)
    own = Bedplate(paths=paths, port=0)
    secret = json.loads(own("key", "add", "baked", "--json").stdout)["secret"]
    built = json.loads(own("image", "build", "--variant", "production", "--json", timeout_s=BUILD_S).stdout)
    machine = start(paths, read_image(Path(built["manifest"]).parent), bedplate.engine_layer())
    seen: set[str] = set()
    serving, over = threading.Event(), threading.Event()

    def ask_on() -> None:
        # On an emulated CPU a handshake takes a good part of a second: the rest of the boot must go on beside it.
        while not over.wait(10 if serving.is_set() else 0.2):
            seen.add(code_of(machine.port, None))
            seen.add(code_of(machine.port, "bp_of_nobody"))

    stranger = threading.Thread(target=ask_on)
    stranger.start()
    try:
        with terminal_progress() as progress:
            wait_ready(machine, progress, timeout_s=BOOT_S)
        serving.set()
        status, answer = ask(machine.port, "/v1/chat/completions", CHAT, secret)
        assert status == 200, answer
        with pytest.raises((OSError, http.client.HTTPException)):  # plain HTTP
            plain = http.client.HTTPConnection("127.0.0.1", machine.port, timeout=60)
            plain.request("GET", "/health")
            plain.getresponse()
        deadline = time.monotonic() + BOOT_S  # until /var is open, which a first boot makes
        while code_of(machine.port, "bp_of_nobody") == "keys_not_loaded":
            assert time.monotonic() < deadline, (machine.directory / SERIAL_LOG).read_text(errors="replace")[-3000:]
            time.sleep(10)
        assert ask(machine.port, "/v1/models", None, secret)[0] == 200
    finally:
        over.set()
        stranger.join()
        serial = (machine.directory / SERIAL_LOG).read_text(errors="replace")
        kill_machine(paths)
    assert "keys_not_loaded" in seen, "the front end was asked before /var was open"
    assert seen <= {"", "keys_not_loaded", "missing_api_key", "invalid_api_key", "too_many_invalid_keys"}
    assert re.search(
        r"bedplate: the front end has a new CA, whose SHA-256 fingerprint is [0-9A-F]{2}(:[0-9A-F]{2}){31}", serial
    )
