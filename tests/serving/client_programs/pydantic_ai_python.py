"""pydantic-ai: an agent with a tool, and one with an output of a certain form. Prints what it got as JSON."""

import json
import sys

from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

URL, MODEL, LONG = sys.argv[1:]


class Stay(BaseModel):
    day: int
    sunny: bool


def model(name=MODEL):
    return OpenAIChatModel(name, provider=OpenAIProvider(base_url=f"{URL}/v1", api_key="none"))


called = []
agent = Agent(model())


@agent.tool_plain
def wait(day: int) -> str:
    """Wait for some days."""
    called.append(day)
    return "sunny"


def refused(call):
    try:
        call()
    except ModelHTTPError as error:
        return [error.status_code, error.body["code"]]
    return None


async def streamed():
    async with Agent(model()).run_stream("hello") as run:
        return await run.get_output()


import asyncio  # noqa: E402

print(
    json.dumps(
        {
            "chat": Agent(model()).run_sync("hello").output,
            "stream": asyncio.run(streamed()),
            "after the tool": agent.run_sync("hello").output,
            "called": called,
            "structured": Agent(model(), output_type=Stay).run_sync("hello").output.model_dump(),
            "missing": refused(lambda: Agent(model("nobody")).run_sync("hello")),
            "overflow": refused(lambda: Agent(model()).run_sync(LONG)),
        }
    )
)
