"""What engines in Python share: the interpreter of their layers, their surroundings, the probe of the OpenAI protocol, and
which models they cannot serve. Pure.
"""

from __future__ import annotations

from collections.abc import Collection

from bedplate.engines.llamacpp import PROBE_FLOOR_S, batch_s
from bedplate.errors import ModelRefused
from bedplate.model.instance import SHOWN_SETTINGS
from bedplate.model.launch import ModelRef, ModelTask, Probe

PROGRAM = "/usr/bin/python3.11"
"""Also argv[0]: the interpreter finds itself by it, and starts the engine's other processes with it."""
SITE = "/usr/lib/engine/site"
"""Where a layer has the packages of its engine."""
HEARTBEAT = "/bedplate/heartbeat"
"""Path that what is in engine.d adds to the server of each engine."""
_ENCODERS = frozenset(
    [
        *("albert", "bert", "camembert", "deberta", "deberta-v2", "distilbert", "electra", "modernbert", "mpnet"),
        *("nomic_bert", "roberta", "xlm-roberta"),
    ]
)
"""model_type of models that make vectors and no text."""

ENVIRONMENT = (
    ("PYTHONPATH", f"{SITE}:{SHOWN_SETTINGS}"),
    ("PYTHONDONTWRITEBYTECODE", "1"),  # the layer is read-only and has its byte code
    ("LANG", "C.UTF-8"),
    ("HOME", "/tmp"),  # of the engine alone, in memory; libraries put their caches there
    ("HF_HOME", "/tmp/huggingface"),
    ("HF_HUB_CACHE", "/tmp"),  # must exist, or Transformers' list of models fails
    # There is no network. Without these, loading waits for answers, and each start tries to send reports.
    ("HF_HUB_OFFLINE", "1"),
    ("TRANSFORMERS_OFFLINE", "1"),
    ("HF_HUB_DISABLE_TELEMETRY", "1"),
    ("DO_NOT_TRACK", "1"),
)


def make_openai_probe(model: ModelRef, threads: int, batch: int) -> Probe:
    """A completion of one token proves that the engine is ready; then the heartbeat of engine.d, within one batch."""
    return Probe(
        path="/v1/completions",
        body=f'{{"model":"{model.name}","prompt":"a","max_tokens":1,"temperature":0}}',
        expect='"completion_tokens":1',
        heartbeat=HEARTBEAT,
        deadline_s=PROBE_FLOOR_S + batch_s(model, threads, batch),
    )


def check_safetensors(engine: str, model: ModelRef, architectures: Collection[str]) -> None:
    """Raise ModelRefused for a model that this engine cannot serve as text, token by token, from a directory.

    architectures: the values of model_type that the engine's build knows, or () where it is not known.
    """
    if model.architecture == "unknown":
        raise ModelRefused(
            f"{model.name}: is a single safetensors file, and {engine} needs the directory with its config.json",
            hint="Add the directory of the model: bedplate model add DIRECTORY.",
        )
    if model.task is not ModelTask.GENERATE or model.architecture in _ENCODERS:
        raise ModelRefused(
            f"{model.name}: {model.architecture!r} makes vectors, and {engine} is set up for models that make text",
            hint="Convert the model to GGUF; llama.cpp serves it.",
        )
    if architectures and model.architecture not in architectures:
        raise ModelRefused(
            f"{model.name}: {engine} does not know the architecture {model.architecture!r}",
            hint="A newer engine may: bedplate image build --update. Or choose another model.",
        )
