"""Starts `transformers serve` as an engine of bedplate: on a Unix socket, with a bound on each request, and a heartbeat.

    python3 bedplate_transformers.py MODEL --name NAME --socket PATH --context TOKENS --stuck-s SECONDS --model-threads N

Runs with the Python of its layer. Written for transformers 5.24 (src/transformers/cli/serve.py and cli/serving/), which has
--host and --port alone, ends no stream with [DONE], serves a model under its path alone, bounds no prompt, and answers
/health whatever its inference thread does. What is replaced here is looked up when it starts, so that a version without it
fails at once and by name.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HEARTBEAT = "/bedplate/heartbeat"
_LAST = b"data: [DONE]\n\n"


class Progress:
    """Whether the inference thread works, and when the model last came back from a pass over tokens."""

    def __init__(self, stuck_s: float) -> None:
        self._stuck_s = stuck_s
        self._running = 0
        self._last_s = 0.0

    def tick(self, *_: object) -> None:
        """A pass of the model is over."""
        self._last_s = time.monotonic()

    def watch(self, generate: Callable[..., Any]) -> Callable[..., Any]:
        """The same function; while it runs, passes of the model are expected."""

        def watched(*arguments: Any, **options: Any) -> Any:
            self.tick()
            self._running += 1
            try:
                return generate(*arguments, **options)
            finally:
                self._running -= 1

        return watched

    def is_stuck(self) -> bool:
        """Whether something is generated and no pass of the model has ended for longer than one may take."""
        return self._running > 0 and time.monotonic() - self._last_s > self._stuck_s


class Ending:
    """ASGI middleware: a stream of events ends with [DONE], by which clients know that an answer is whole."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        streamed = False

        async def send_ended(message: Any) -> None:
            nonlocal streamed
            if message["type"] == "http.response.start":
                headers = dict(message.get("headers", ()))
                streamed = headers.get(b"content-type", b"").startswith(b"text/event-stream")
            elif message["type"] == "http.response.body" and streamed and not message.get("more_body", False):
                message = {**message, "body": message.get("body", b"") + _LAST}
            await send(message)

        await self._app(scope, receive, send_ended)


def main() -> None:
    """Load the model, then answer requests until the process is ended."""
    options = parse_arguments()
    name, model = options.name, options.model.resolve(strict=True)
    place = Path(tempfile.mkdtemp(prefix="bedplate-")) / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(model)
    # transformers serve answers a request only for exactly the name that it was started with, and takes a relative path.
    os.chdir(str(place).removesuffix(f"/{name}"))

    import torch

    torch.set_num_threads(options.model_threads)
    import uvicorn
    from transformers.cli import serve
    from transformers.cli.serving import model_manager, utils

    progress = Progress(options.stuck_s)
    _watch_models(model_manager.ModelManager, progress)
    _bound_requests(utils.GenerateManager, options.context)
    _listen_on(uvicorn, options.socket, progress)
    serve.Serve(force_model=name, device="cpu", log_level="error")


def parse_arguments() -> argparse.Namespace:
    """The command line, as engines/transformers.py makes it."""
    parser = argparse.ArgumentParser(description="Start transformers serve on a Unix socket.")
    parser.add_argument("model", type=Path, help="directory of the model")
    parser.add_argument("--name", required=True, help="name that requests give in their model field")
    parser.add_argument("--socket", required=True, help="path of the Unix socket to listen on")
    parser.add_argument("--context", type=int, required=True, help="tokens a request may hold, prompt and answer together")
    parser.add_argument("--stuck-s", type=float, required=True, help="longest time that one pass of the model may take")
    parser.add_argument("--model-threads", type=int, required=True, help="number of threads that compute")
    return parser.parse_args()


def _watch_models(manager: Any, progress: Progress) -> None:
    """Each model that is loaded reports its passes."""
    load = manager._load_model

    def load_watched(self: Any, *arguments: Any, **options: Any) -> Any:
        model = load(self, *arguments, **options)
        model.register_forward_hook(progress.tick)
        model.generate = progress.watch(model.generate)
        return model

    manager._load_model = load_watched


def _bound_requests(manager: Any, context: int) -> None:
    """Refuse what would need more memory than was planned for: the server itself bounds neither prompt nor answer."""
    from fastapi import HTTPException

    def check(inputs: Any, settings: Any) -> None:
        prompt = int(inputs["input_ids"].shape[-1])
        if prompt >= context:
            raise HTTPException(
                status_code=400,
                detail=f"The maximum context length is {context} tokens, and the prompt has {prompt} tokens.",
            )
        if settings.max_new_tokens is None or prompt + settings.max_new_tokens > context:
            settings.max_new_tokens = context - prompt

    stream, answer = manager.generate_streaming, manager.generate_non_streaming

    def generate_streaming(self: Any, model: Any, processor: Any, inputs: Any, gen_config: Any, **more: Any) -> Any:
        check(inputs, gen_config)
        return stream(self, model, processor, inputs, gen_config, **more)

    async def generate_non_streaming(
        self: Any, model: Any, processor: Any, inputs: Any, gen_config: Any, **more: Any
    ) -> Any:
        check(inputs, gen_config)
        return await answer(self, model, processor, inputs, gen_config, **more)

    manager.generate_streaming, manager.generate_non_streaming = generate_streaming, generate_non_streaming


def _listen_on(uvicorn: Any, path: str, progress: Progress) -> None:
    """Listen on the socket instead of host and port, and answer the heartbeat."""
    configure = uvicorn.Config

    def config(app: Any, **options: Any) -> Any:
        from fastapi.responses import Response

        @app.get(HEARTBEAT)
        def heartbeat() -> Response:
            return Response(status_code=503 if progress.is_stuck() else 200)

        kept = {key: value for key, value in options.items() if key not in ("host", "port")}
        return configure(Ending(app), uds=path, **kept | {"log_level": "warning", "access_log": False})

    uvicorn.Config = config


if __name__ == "__main__":
    main()
