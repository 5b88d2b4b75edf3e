"""llm, by its Python interface, with the model in its extra-openai-models.yaml. Prints what it got as JSON."""

import json
import os
import pathlib
import sys
import tempfile

URL, MODEL, LONG = sys.argv[1:]
home = pathlib.Path(tempfile.mkdtemp())
os.environ["LLM_USER_PATH"] = str(home)
(home / "extra-openai-models.yaml").write_text(
    "".join(
        f"- model_id: {name}\n  model_name: {name}\n  api_base: {URL}/v1\n  supports_tools: true\n"
        for name in (MODEL, "nobody")
    )
)
import llm  # noqa: E402  it reads its directory when it is imported


def ask(text="hello", name=MODEL, **more):
    return llm.get_model(name).prompt(text, key="none", **more)


def wait(day: int) -> str:
    """Wait for some days."""
    return f"waited {day}"


def refused(call):
    try:
        call()
    except Exception as error:
        return [type(error).__name__]
    return None


call = ask(tools=[wait]).tool_calls()[0]
chain = llm.get_model(MODEL).chain("hello", tools=[wait], key="none")
print(
    json.dumps(
        {
            "chat": ask(stream=False).text(),
            "stream": "".join(ask()),
            "tool": [call.name, call.arguments],
            "after the tool": chain.text(),
            "missing": refused(lambda: ask(name="nobody").text()),
            "overflow": refused(lambda: ask(LONG).text()),
        }
    )
)
