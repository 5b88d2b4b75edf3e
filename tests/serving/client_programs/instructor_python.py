"""instructor in its mode TOOLS: the model must call one tool, which is chosen by its name. Prints what it got as JSON."""

import json
import sys

import instructor
import openai
from pydantic import BaseModel

URL, MODEL, LONG = sys.argv[1:]
client = instructor.from_openai(
    openai.OpenAI(base_url=f"{URL}/v1", api_key="none", max_retries=0), mode=instructor.Mode.TOOLS
)


class Stay(BaseModel):
    day: int
    sunny: bool


def ask(text="hello", model=MODEL):
    return client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": text}], response_model=Stay, max_retries=0
    )


def refused(call):
    try:
        call()
    except Exception as error:
        return str(error)
    return None


pieces = list(
    client.chat.completions.create_partial(
        model=MODEL, messages=[{"role": "user", "content": "hello"}], response_model=Stay, max_retries=0
    )
)
print(
    json.dumps(
        {
            "structured": ask().model_dump(),
            "stream": pieces[-1].model_dump(),
            "missing": refused(lambda: ask(model="nobody")),
            "overflow": refused(lambda: ask(LONG)),
        }
    )
)
