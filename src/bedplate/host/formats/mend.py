"""Documents whose end was cut off, closed again: what is whole in them can then be read."""

from __future__ import annotations

import re

_JSON_TOKEN = re.compile(r'"(?:[^"\\\n]|\\.){0,100000}"|[{}\[\],:]|[^\s"{}\[\],:]{1,400}')
_TAG = re.compile(r"<(?P<close>/?)(?P<name>[A-Za-z_][\w.-]{0,80})(?P<inside>[^<>]{0,100000}?)(?P<empty>/?)>")
_CLOSERS = {"{": "}", "[": "]"}
_DEEPEST = 64


def mend_json(text: str) -> str:
    """The text up to its last whole member, with the brackets that are open closed: '{"a": 1, "b": {"c' -> '{"a": 1, "b":
    {}}'.

    The same text where nothing is open; what comes back need not be JSON, when the text was none.
    """
    stack: list[str] = []
    end, open_then = 0, ""
    after_colon = False
    for token in _JSON_TOKEN.finditer(text):
        sign = token[0]
        if sign in "{[":
            stack.append(_CLOSERS[sign])
            end, open_then, after_colon = token.end(), "".join(reversed(stack)), False
            if len(stack) > _DEEPEST:
                return text
        elif sign in "}]":
            if not stack:
                return text
            stack.pop()
            end, open_then, after_colon = token.end(), "".join(reversed(stack)), False
        elif sign == ":":
            after_colon = True
        elif sign != "," and (after_colon or (stack and stack[-1] == "]")):
            whole = token.end() < len(text)  # a number or word at the very end may be the half of one
            if whole:
                end, open_then = token.end(), "".join(reversed(stack))
            after_colon = False
    return text if not stack else text[:end] + open_then


def mend_xml(text: str) -> str:
    """The text up to its last whole tag, with all elements that are open closed; the same text when none is."""
    stack: list[str] = []
    end = 0
    for tag in _TAG.finditer(text):
        end = tag.end()
        if tag["close"]:
            if stack and stack[-1] == tag["name"]:
                stack.pop()
        elif not tag["empty"]:
            stack.append(tag["name"])
            if len(stack) > _DEEPEST:
                return text
    return text[:end] + "".join(f"</{name}>" for name in reversed(stack)) if stack else text
