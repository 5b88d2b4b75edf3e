"""LiteLLM, which maps errors of OpenAI's form to classes of its own. Prints what it got as JSON."""

import json
import sys

import litellm

URL, MODEL, LONG = sys.argv[1:]
HELLO = [{"role": "user", "content": "hello"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "wait",
        "parameters": {
            "type": "object",
            "properties": {"day": {"type": "integer"}},
            "required": ["day"],
            "additionalProperties": False,
        },
    },
}


def ask(model=MODEL, **more):
    return litellm.completion(
        **{
            "model": f"openai/{model}",
            "messages": HELLO,
            "api_base": f"{URL}/v1",
            "api_key": "none",
            "num_retries": 0,
            **more,
        }
    )


def refused(call):
    try:
        call()
    except Exception as error:
        return [type(error).__name__, getattr(error, "status_code", None)]
    return None


call = ask(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "wait"}}).choices[0].message.tool_calls[0]
print(
    json.dumps(
        {
            "chat": ask().choices[0].message.content,
            "stream": "".join(piece.choices[0].delta.content or "" for piece in ask(stream=True)),
            "tool": [call.function.name, json.loads(call.function.arguments)],
            "missing": refused(lambda: ask("nobody")),
            "overflow": refused(lambda: ask(messages=[{"role": "user", "content": LONG}])),
        }
    )
)
