"""Model files as people have them: each is served right, or refused by name before anything starts.

Refused files are given to the engine as well: it must not be able to serve them, else the refusal is the fault.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import gguf
import pytest

from bedplate.act.paths import Paths
from bedplate.engines import engine_for
from bedplate.errors import BedplateError, ModelRefused
from bedplate.image.engine_features import find_architectures
from bedplate.model.launch import ModelRef
from bedplate.weights.store import Store
from tests.effort import wait_until
from tests.serving import zoo
from tests.serving.conftest import Stack
from tests.unit.store_cases import Heard

MakeStack = Callable[..., AbstractContextManager[Stack]]
_T = gguf.GGMLQuantizationType
QUESTION = "What is the capital of France?"


@pytest.fixture(scope="session")
def architectures(engine_tree: Path) -> tuple[str, ...]:
    return find_architectures(engine_tree)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def add(store: Store, path: Path, architectures: tuple[str, ...], **more: Any) -> ModelRef:
    """As `bedplate model add` does, with what the built engine says that it loads."""

    def check(model: ModelRef, types: frozenset[str]) -> None:
        engine_for(model).check_model(model, architectures, types)

    return store.add(path, progress=Heard(), check=check, **more)


def tail(path: Path) -> Path:
    path.write_bytes(zoo.SHIPPED.read_bytes() + bytes(4096))
    return path


def of_version_2(path: Path) -> Path:
    content = bytearray(zoo.write_known_answer(path).read_bytes())
    content[4:8] = struct.pack("<I", 2)
    path.write_bytes(content)
    return path


def scaled(writer: gguf.GGUFWriter) -> None:
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(4.0)
    writer.add_rope_scaling_orig_ctx_len(512)


ANSWER_AS_THE_SHIPPED_ONE: dict[str, Callable[[Path], Path]] = {
    "as it ships": lambda path: zoo.write_known_answer(path / "m.gguf"),
    "F16": lambda path: zoo.write_known_answer(path / "m.gguf", type=_T.F16),
    "F32": lambda path: zoo.write_known_answer(path / "m.gguf", type=_T.F32),
    "BF16": lambda path: zoo.write_known_answer(path / "m.gguf", type=_T.BF16),
    "Q8_0": lambda path: zoo.write_known_answer(path / "m.gguf", type=_T.Q8_0),
    "bytes after its end": lambda path: tail(path / "m.gguf"),
    "GGUF version 2": lambda path: of_version_2(path / "m.gguf"),
    "two parts": lambda path: zoo.write_split(path / "parts"),
    "five parts": lambda path: zoo.write_split(path / "parts", parts=5),
    "alignment of 64": lambda path: zoo.write_known_answer(
        path / "m.gguf", more=lambda writer: writer.add_custom_alignment(64)
    ),
}


def chat(model: str, question: str = QUESTION) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": question}], "max_tokens": 8, "temperature": 0}


@pytest.fixture(scope="module")
def right_answer(make_stack: MakeStack) -> str:
    with make_stack("known-answer") as stack:
        stack.start_all()
        answer = stack.ask("/v1/chat/completions", chat("known-answer"))
        return str(answer.json["choices"][0]["message"]["content"])


def test_each_form_of_one_model_answers_alike(
    store: Store, tmp_path: Path, make_stack: MakeStack, architectures: tuple[str, ...], right_answer: str
) -> None:
    """All of them behind one front, each by its own engine, one after the other."""
    refs = []
    for number, make in enumerate(ANSWER_AS_THE_SHIPPED_ONE.values()):
        (directory := tmp_path / f"{number}").mkdir()
        refs.append(add(store, make(directory), architectures, name=f"zoo/{number}:v1"))
    answers = {}
    with make_stack(*refs, context=512) as stack:
        stack.start_front()
        for ref, name in zip(refs, ANSWER_AS_THE_SHIPPED_ONE, strict=True):
            stack.start_engine(ref.name)
            wait_until(lambda ref=ref: serves(stack, ref.name), f"{name} serves")  # type: ignore[misc]
            answer = stack.ask("/v1/chat/completions", chat(ref.name))
            answers[name] = answer.json["choices"][0]["message"]["content"] if answer.status == 200 else answer.text
            stack.kill(ref.name)
    assert answers == dict.fromkeys(ANSWER_AS_THE_SHIPPED_ONE, right_answer)


def serves(stack: Stack, name: str) -> bool:
    assert not stack.has_ended(name), stack.log(name)[-2000:]
    return stack.ask(f"/health/{name}", method="GET").status == 200


UNUSUAL = [_T.MXFP4, _T.IQ4_NL, _T.TQ1_0, _T.IQ2_XXS, _T.IQ1_S, _T.NVFP4]


@pytest.mark.parametrize("type", UNUSUAL, ids=[kind.name for kind in UNUSUAL])
def test_unusual_quantisations_make_tokens(
    store: Store, tmp_path: Path, make_stack: MakeStack, architectures: tuple[str, ...], type: Any
) -> None:
    """Of random weights: what they say means nothing."""
    ref = add(store, zoo.write_random_blocks(tmp_path / "m.gguf", type), architectures, name="unusual")
    with make_stack(ref, context=512) as stack:
        stack.start_front()
        stack.start_engine(ref.name)
        wait_until(lambda: serves(stack, ref.name), f"{type.name} serves")
        assert stack.complete(ref.name, 3).json["usage"]["completion_tokens"] == 3


def broken_template(writer: gguf.GGUFWriter) -> None:
    writer.add_chat_template("{% for m in messages %}{{ m.content ")


REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "an architecture newer than the engine": (
        lambda path: zoo.write_known_answer(path, architecture="qwen99", without="llama."),
        "does not know the architecture 'qwen99'",
    ),
    "a model of images": (
        lambda path: zoo.write_known_answer(path, architecture="flux", without="llama."),
        "does not know the architecture 'flux'",
    ),
    "no tokenizer": (lambda path: zoo.write_known_answer(path, without="tokenizer."), "has no tokenizer"),
    "a projector alone": (zoo.write_projector, "a projector"),
    "a projector of before general.type": (lambda path: zoo.write_projector(path, named=False), "a projector"),
    "an adapter alone": (zoo.write_lora, "a LoRA adapter"),
    "tensors that are never loaded": (lambda path: zoo.write_random_blocks(path, _T.Q8_K), "type Q8_K"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_the_engine_cannot_serve_is_refused_by_name(
    store: Store, tmp_path: Path, make_stack: MakeStack, architectures: tuple[str, ...], kind: str
) -> None:
    make, says = REFUSED[kind]
    path = make(tmp_path / "m.gguf")
    with pytest.raises(ModelRefused, match=says):
        add(store, path, architectures)
    assert store.models() == ()
    with make_stack("known-answer", context=512) as stack:  # the engine agrees
        stack.serve_file("known-answer", path)
        stack.start_engine("known-answer")
        wait_until(lambda: stack.has_ended("known-answer"), "the engine refuses it too")


def test_an_embedding_model_and_a_reranker_are_served_as_what_they_are(
    store: Store, tmp_path: Path, make_stack: MakeStack, architectures: tuple[str, ...]
) -> None:
    embed = add(store, zoo.write_bert(tmp_path / "embed.gguf"), architectures)
    rank = add(store, zoo.write_bert(tmp_path / "rank.gguf", rank=True), architectures)
    assert (embed.task, rank.task) == ("embed", "rerank")
    with make_stack(embed, rank, context=512) as stack:
        stack.start_all()
        answer = stack.ask("/v1/embeddings", {"model": "embed", "input": ["a b", "c"]})
        assert [len(row["embedding"]) for row in answer.json["data"]] == [64, 64]
        scored = stack.ask("/v1/rerank", {"model": "rank", "query": "a", "documents": ["b", "a c", "d"]})
        assert sorted(row["index"] for row in scored.json["results"]) == [0, 1, 2]
        long = stack.ask("/v1/embeddings", {"model": "embed", "input": "a " * 400})
        assert long.status == 200, long.text
        for model, path, body in (
            ("embed", "/v1/chat/completions", chat("embed")),
            ("rank", "/v1/embeddings", {"model": "rank", "input": "a"}),
        ):
            refused = stack.ask(path, body)
            assert (refused.status, refused.code) == (400, "unsupported_endpoint"), model
        rows = {row["id"]: row for row in stack.ask("/v1/models", method="GET").json["data"]}
        assert {name: row["task"] for name, row in rows.items()} == {"embed": "embed", "rank": "rerank"}


def png(width: int, height: int) -> bytes:
    """A picture of one colour."""
    rows = b"".join(b"\0" + bytes((200, 30, 30)) * width for _ in range(height))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_a_model_with_a_projector_reads_an_image(
    store: Store, tmp_path: Path, make_stack: MakeStack, architectures: tuple[str, ...]
) -> None:
    directory = tmp_path / "seeing"
    directory.mkdir()
    zoo.write_known_answer(directory / "m.gguf")
    zoo.write_projector(directory / "mmproj.gguf")
    ref = add(store, directory, architectures)
    image = base64.b64encode(png(64, 64)).decode()
    content = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}},
    ]
    with make_stack(ref, context=512) as stack:
        stack.start_all()
        body = {"model": ref.name, "messages": [{"role": "user", "content": content}], "max_tokens": 4}
        answer = stack.ask("/v1/chat/completions", body)
        assert answer.status == 200, answer.text
        assert answer.json["usage"]["prompt_tokens"] > 16, "the image is part of the prompt"


def test_a_model_with_an_adapter_answers(
    store: Store, tmp_path: Path, make_stack: MakeStack, architectures: tuple[str, ...], right_answer: str
) -> None:
    """One that adds nothing: the answer is the base's, and the engine says that it has loaded it."""
    lora = zoo.write_lora(tmp_path / "style.gguf")
    ref = add(store, zoo.write_known_answer(tmp_path / "m.gguf"), architectures, adapters=[lora], name="styled")
    with make_stack(ref, context=512) as stack:
        stack.start_all()
        answer = stack.ask("/v1/chat/completions", chat("styled"))
        assert answer.json["choices"][0]["message"]["content"] == right_answer


def test_the_features_of_the_built_layer_are_kept_beside_it(built: Paths, architectures: tuple[str, ...]) -> None:
    import json

    record = json.loads((built.engines / "llamacpp.json").read_text())
    assert tuple(record["architectures"]) == architectures


def test_errors_of_adding_say_what_to_do(store: Store, tmp_path: Path, architectures: tuple[str, ...]) -> None:
    for make, _ in REFUSED.values():
        with pytest.raises(BedplateError) as refused:
            add(store, make(tmp_path / "m.gguf"), architectures)
        assert refused.value.hint
