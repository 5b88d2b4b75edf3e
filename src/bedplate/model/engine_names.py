"""Names of inference engines: of those that bedplate starts, and those that threads and processes of all have in the kernel,
which cuts them to 15 characters."""

from __future__ import annotations

import re

ENGINE_NAMES = ("llamacpp", "vllm", "transformers")
"""The engines that bedplate starts, as machine.toml and the layers name them; a test compares them with engines.ENGINES."""
_NAME = re.compile(
    r"(?:vllm|sglang|sgl_|sgl-|llama|ollama|triton|trtllm|text-generati|tgi-|lmdeploy|koboldcpp|local-ai|ray::|enginecore|python3?(?:\.\d{1,3})?$)",
    re.IGNORECASE,
)


def is_engine_name(name: str) -> bool:
    """Whether a process is likely one of an engine: "VLLM::EngineCor", "llama-server", and every Python interpreter.

    Most engines are Python programs that do not give themselves a name; on an inference host the guess is seldom wrong.
    """
    return _NAME.match(name) is not None
