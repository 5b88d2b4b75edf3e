"""Anthropic's own library: messages, streams, tools, tokens, errors. Prints what it got as JSON."""

import json
import sys

import anthropic

URL, MODEL, LONG = sys.argv[1:]
client = anthropic.Anthropic(base_url=URL, api_key="none", max_retries=0)
HELLO = [{"role": "user", "content": "hello"}]
TOOLS = [
    {
        "name": name,
        "input_schema": {
            "type": "object",
            "properties": {"day": {"type": "integer"}},
            "required": ["day"],
            "additionalProperties": False,
        },
    }
    for name in ("look", "wait")
]


def ask(**more):
    return client.messages.create(**{"model": MODEL, "max_tokens": 60, "messages": HELLO, **more})


def refused(call):
    try:
        call()
    except anthropic.APIStatusError as error:
        return [type(error).__name__, error.status_code, error.body["error"]["type"]]
    return None


with client.messages.stream(model=MODEL, max_tokens=60, messages=HELLO) as stream:
    streamed = "".join(stream.text_stream)
chosen = ask(tools=TOOLS, tool_choice={"type": "tool", "name": "wait"})
use = next(part for part in chosen.content if part.type == "tool_use")
after = ask(
    tools=TOOLS,
    messages=[
        *HELLO,
        {"role": "assistant", "content": [use.model_dump(include={"type", "id", "name", "input"})]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": use.id, "content": "sunny"}]},
    ],
)
print(
    json.dumps(
        {
            "chat": ask(system="be brief").content[0].text,
            "stream": streamed,
            "tool": [use.name, use.input],
            "after the tool": after.content[0].text,
            "tokens": client.messages.count_tokens(model=MODEL, messages=HELLO).input_tokens > 0,
            "missing": refused(lambda: ask(model="nobody")),
            "overflow": refused(lambda: ask(messages=[{"role": "user", "content": LONG}])),
        }
    )
)
