"""A guest with eight models, each served as what it is: five that answer, one that embeds, one that ranks, one that sees."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from bedplate.image.manifest import Image
from bedplate.model.units import GIB
from tests.conftest import Bedplate
from tests.serving import zoo
from tests.serving.test_zoo import png
from tests.serving.tiny_gguf import write_tiny_model
from tests.vm.serving_guest import ServingGuest, serving_guest

pytestmark = [pytest.mark.vm, pytest.mark.long]

WORDS = {"one": "alpha", "org/two:v1": "beta", "three": "gamma", "four": "delta"}
QUESTION = "What is NUMA?"
# The guest has no network: its own loopback is asked. Waits for the model, and prints status and body.
ASK = """
import http.client, sys, time
path, body = sys.argv[1], open("/run/body").read()
while True:
    connection = http.client.HTTPConnection("127.0.0.1", 8080, timeout=600)
    connection.request("POST", path, body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    text = answer.read().decode()
    if answer.status != 503:
        break
    time.sleep(2)
print(answer.status, text)
"""


def ask(guest: ServingGuest, path: str, body: dict[str, Any]) -> tuple[int, Any]:
    """Status and JSON of the model's answer, once it serves."""
    said = guest.shell(f"cat >/run/body <<'END'\n{json.dumps(body)}\nEND\npython3 /run/ask.py {path}")
    status, _, text = said.partition(" ")
    return int(status), json.loads(text)


def chat(model: str, content: object, tokens: int) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": content}], "max_tokens": tokens, "temperature": 0}


def test_each_of_eight_models_is_served_as_what_it_is(bedplate: Bedplate, image: Image, tmp_path: Path) -> None:
    models = []
    for number, (name, word) in enumerate(WORDS.items()):
        file = tmp_path / f"{number}.gguf"
        write_tiny_model(file, embedding=64, layers=1, context=512, says=word)
        models.append((name, file))
    seeing = tmp_path / "seeing"
    seeing.mkdir()
    zoo.write_known_answer(seeing / "m.gguf")
    zoo.write_projector(seeing / "mmproj.gguf")
    models += [
        ("answers", zoo.write_known_answer(tmp_path / "answers.gguf")),
        ("embeds", zoo.write_bert(tmp_path / "embeds.gguf")),
        ("ranks", zoo.write_bert(tmp_path / "ranks.gguf", rank=True)),
        ("sees", seeing),
    ]
    with serving_guest(bedplate, image, bedplate.engine_layer(), models, tmp_path / "state", memory_bytes=4 * GIB) as guest:
        guest.shell(f"cat >/run/ask.py <<'END'\n{ASK}\nEND")
        for name, word in WORDS.items():
            status, answer = ask(guest, "/v1/chat/completions", chat(name, QUESTION, 3))
            assert (status, answer["choices"][0]["message"]["content"]) == (200, word * 3)
        status, answer = ask(guest, "/v1/chat/completions", chat("answers", QUESTION, 12))
        assert answer["choices"][0]["message"]["content"].startswith("NUMA is non-uniform memory access"), answer
        status, answer = ask(guest, "/v1/embeddings", {"model": "embeds", "input": ["a b", "c"]})
        assert (status, [len(row["embedding"]) for row in answer["data"]]) == (200, [64, 64])
        status, answer = ask(guest, "/v1/rerank", {"model": "ranks", "query": "a", "documents": ["b", "a c", "d"]})
        assert (status, sorted(row["index"] for row in answer["results"])) == (200, [0, 1, 2])
        picture = f"data:image/png;base64,{base64.b64encode(png(64, 64)).decode()}"
        content = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": picture}}]
        status, answer = ask(guest, "/v1/chat/completions", chat("sees", content, 4))
        assert status == 200 and answer["usage"]["prompt_tokens"] > 16, "the image is part of the prompt"
        status, answer = ask(guest, "/v1/chat/completions", chat("ranks", QUESTION, 4))
        assert (status, answer["error"]["code"]) == (400, "unsupported_endpoint")
        units = guest.shell(
            "systemctl list-units --state=active --no-legend --plain 'bedplate-engine@*' | cut -d' ' -f1"
        ).split()
        assert len(units) == 8, units
        assert set(guest.shell(f"systemctl show -P NRestarts {' '.join(units)}").split()) == {"0"}
