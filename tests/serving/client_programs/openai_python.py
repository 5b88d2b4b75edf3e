"""OpenAI's own library: chat, streams, tools, structured output, responses, errors. Prints what it got as JSON."""

import json
import sys

import openai
from pydantic import BaseModel

URL, MODEL, LONG = sys.argv[1:]
client = openai.OpenAI(base_url=f"{URL}/v1", api_key="none", max_retries=0)
HELLO = [{"role": "user", "content": "hello"}]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "parameters": {
                "type": "object",
                "properties": {"day": {"type": "integer"}},
                "required": ["day"],
                "additionalProperties": False,
            },
        },
    }
    for name in ("look", "wait")
]


class Day(BaseModel):
    day: int


def refused(call):
    try:
        call()
    except openai.APIStatusError as error:
        return [type(error).__name__, error.status_code, error.code]
    return None


def chat(**more):
    return client.chat.completions.create(**{"model": MODEL, "messages": HELLO, **more})


def tool_of(answer):
    call = answer.choices[0].message.tool_calls[0]
    return [call.function.name, json.loads(call.function.arguments)]


first = chat(tools=TOOLS, tool_choice="required")
call = first.choices[0].message
after = chat(
    tools=TOOLS,
    messages=[
        *HELLO,
        call.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.tool_calls[0].id, "content": "sunny"},
    ],
)
stream = list(chat(stream=True, stream_options={"include_usage": True}))
print(
    json.dumps(
        {
            "models": [model.id for model in client.models.list()],
            "chat": chat(temperature=0.7, seed=1, user="me", max_completion_tokens=50).choices[0].message.content,
            "stream": "".join(piece.choices[0].delta.content or "" for piece in stream if piece.choices),
            "usage": stream[-1].usage.completion_tokens > 0,
            "tool": tool_of(chat(tools=TOOLS, tool_choice={"type": "function", "function": {"name": "wait"}})),
            "after the tool": after.choices[0].message.content,
            "structured": client.chat.completions.parse(model=MODEL, messages=HELLO, response_format=Day)
            .choices[0]
            .message.parsed.day,
            "response": client.responses.create(model=MODEL, input="hello", store=False).output_text,
            "missing": refused(lambda: chat(model="nobody")),
            "overflow": refused(lambda: chat(messages=[{"role": "user", "content": LONG}])),
            "unsupported": refused(lambda: chat(verbosity="low")),
        }
    )
)
