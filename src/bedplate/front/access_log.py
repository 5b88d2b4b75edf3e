"""The access log: one line of JSON for each request, without a character that a client has chosen.

HAProxy's JSON encoding of a log line (3.0) quotes strings, but leaves a newline in them as it is: a `model` of
'x"\\n{"status":200...' begins a line that nobody can tell from a true one. So a client's text is never logged. The model and
the path are logged only where they equal one of the names that the configuration itself holds, the key by its id.
"""

from __future__ import annotations

from collections.abc import Sequence

# (name, type, expression); no field may hold what a client has sent.
ACCESS_FIELDS = (
    ("time", "str", "accept_date,utime('%Y-%m-%dT%H:%M:%SZ')"),
    ("id", "str", "unique-id"),
    ("listener", "str", "so_name"),
    ("address", "str", "src"),
    ("tls", "str", "ssl_fc_protocol"),
    ("key", "str", "var(txn.key)"),
    ("path", "str", "var(txn.known_path)"),
    ("model", "str", "var(txn.known_model)"),
    ("status", "sint", "txn.status"),
    ("bytes_in", "sint", "bytes_in"),
    ("bytes_out", "sint", "bytes_out"),
)
# Times are aliases of HAProxy's, in milliseconds; -1: it did not come to that.
_TIMES = (("queue_ms", "Tw"), ("engine_ms", "Tr"), ("total_ms", "Ta"))


def render_access_log() -> list[str]:
    """The frontend's lines that define the log line and say where it goes; errors below HTTP get the same line."""
    fields = [f"%({name}:{kind})[{expression}]" for name, kind, expression in ACCESS_FIELDS]
    fields += [f"%({name}:sint){alias}" for name, alias in _TIMES]
    fields.append("%(end:str)ts")
    return [
        "    # Standard output is the journal. The level is info: `global` logs errors alone.",
        "    no log",
        "    log stdout format raw daemon info",
        f'    log-format "%{{+json}}o {" ".join(fields)}"',
    ]


def render_known_path(paths: Sequence[str]) -> list[str]:
    """Rules, before all others: txn.known_path is the path where it is one of these, which alone may be logged."""
    return [f"    http-request set-var(txn.known_path) path if {{ path {' '.join(paths)} }}"]


def render_known_models(models: Sequence[str]) -> list[str]:
    """Rules once txn.model is known: txn.known_model is its name where a model of this host has it."""
    return [
        f"    http-request set-var(txn.known_model) str({model}) if {{ var(txn.model) -m str {model} }}" for model in models
    ]
