"""What the front asks vLLM for, between two steps of its engine: runs in vLLM's own process, with the Python of its layer.

vLLM's own /health and /metrics are answered by the API server's process, also while the engine core hangs in a step. A
utility call goes through the core's input queue, which `EngineCoreProc.run_busy_loop` (vllm/v1/engine/core.py, 0.32) empties
between two steps. vLLM offers such a call over HTTP only with VLLM_SERVER_DEV_MODE=1, together with calls that end or change
the engine; so a middleware (`--middleware bedplate_vllm.Heartbeat`) makes this one alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

PATH = "/bedplate/heartbeat"

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Heartbeat:
    """ASGI middleware: GET /bedplate/heartbeat gives 200 once the engine core answers, 503 when it has ended."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != PATH:
            await self._app(scope, receive, send)
            return
        try:
            await scope["app"].state.engine_client.is_sleeping()
            status = 200
        except Exception:  # an outer door: EngineDeadError and whatever a later vLLM raises for an engine that is gone
            status = 503
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})
