"""guidellm, unmodified, replays a trace against the front: every request ends well, and its totals are those of the trace.

It is no part of the tests' environments, since it brings PyTorch: BEDPLATE_GUIDELLM names a Python that has it.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bedplate.weights.known_answer_transformers import convert_known_answer
from tests.serving import zoo
from tests.serving.conftest import Stack, model_ref

PYTHON = Path(os.environ.get("BEDPLATE_GUIDELLM", "/nonexistent"))
pytestmark = [
    pytest.mark.build,
    pytest.mark.long,
    pytest.mark.skipif(not PYTHON.is_file(), reason="BEDPLATE_GUIDELLM names no Python that has guidellm"),
]

MODEL = "known-answer"
REQUESTS = 30


@pytest.fixture(scope="module")
def stack(
    make_stack: Callable[..., contextlib.AbstractContextManager[Stack]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    file = zoo.write_known_answer(tmp_path_factory.mktemp("model") / MODEL)
    with make_stack(model_ref(MODEL, file), parallel=2, context=1024) as running:
        running.start_all()
        yield running


def test_a_replayed_trace_has_the_totals_of_the_trace(stack: Stack, tmp_path: Path) -> None:
    """Of completions: of chats, guidellm 0.8.1 was seen to end while its last request was being answered."""
    chance = random.Random(3)
    rows = [
        {
            "timestamp": number * 0.2,
            "input_length": chance.randint(8, 60),
            "output_length": chance.randint(4, 24),
        }
        for number in range(REQUESTS)
    ]
    trace, report, tokenizer = tmp_path / "trace.jsonl", tmp_path / "report.json", tmp_path / "tokenizer"
    trace.write_text("".join(json.dumps(row) + "\n" for row in rows))
    convert_known_answer(tokenizer)
    done = subprocess.run(
        [
            *(PYTHON, "-m", "guidellm", "run", "--disable-console"),
            *(
                "--backend",
                f"kind=openai_http,target=http://127.0.0.1:{stack.port},model={MODEL},request_format=/v1/completions",
            ),
            *("--profile", "kind=replay"),
            *("--data", f"kind=trace_synthetic,source.kind=json_file,source.path={trace}"),
            *("--tokenizer", f"kind=hf_auto,model={tokenizer}"),
            *("--output", f"kind=json,path={report}"),
        ],
        env={"PATH": os.defpath, "HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    (benchmark,) = json.loads(report.read_text())["benchmarks"]
    totals, answered = benchmark["metrics"]["request_totals"], benchmark["requests"]["successful"]
    assert totals == {"successful": REQUESTS, "errored": 0, "incomplete": 0, "total": REQUESTS}
    asked, got = (sorted(row[name] for row in rows) for name in ("input_length", "output_length"))
    assert sorted(request["prompt_tokens"] for request in answered) == asked
    assert sorted(request["output_tokens"] for request in answered) == got
