"""Where a machine serves, and the command that asks it."""

from __future__ import annotations

import json
import shlex


def render_endpoint(*, version: str, models: str, url: str, model: str, question: str, tls: bool) -> str:
    """The image, its models and their URL, a curl command for one model, and who may connect; ends with a blank line.

    models: their names in one text. tls: the front is closed, and answers clients with a key alone.
    """
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": question}]})
    closed = "--cacert ca.pem -H 'Authorization: Bearer KEY' " if tls else ""
    command = f"curl -s {closed}{url}/v1/chat/completions -H 'Content-Type: application/json' -d {shlex.quote(body)}"
    who = (
        "The image is closed: it answers over TLS, and only clients with a key (docs/how-to/keys-and-tls.md)."
        if tls
        else "Anybody on this host can use it, without a key; other hosts cannot reach it."
    )
    return f"\nbedplate {version} serves {models} at {url}\n\n  {command}\n\n{who}\n\n"
