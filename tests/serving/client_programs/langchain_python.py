"""langchain-openai: chat, streams, tools, structured output, errors. Prints what it got as JSON."""

import json
import sys

import openai
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

URL, MODEL, LONG = sys.argv[1:]


class wait(BaseModel):
    """Wait for some days."""

    day: int


def model(name=MODEL):
    return ChatOpenAI(model=name, base_url=f"{URL}/v1", api_key="none", max_retries=0)


def refused(call):
    try:
        call()
    except openai.APIStatusError as error:
        return [error.status_code, error.code]
    return None


call = model().bind_tools([wait], tool_choice="wait").invoke("hello").tool_calls[0]
print(
    json.dumps(
        {
            "chat": model().invoke("hello").content,
            "stream": "".join(piece.content for piece in model().stream("hello")),
            "tool": [call["name"], call["args"]],
            "structured": model().with_structured_output(wait, method="json_schema").invoke("hello").day,
            "missing": refused(lambda: model("nobody").invoke("hello")),
            "overflow": refused(lambda: model().invoke(LONG)),
        }
    )
)
