"""The program's own sentences are no secrets: the catalogue's and the checks' texts stay in a report as they are."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.facts_factory import make_facts
from tests.unit.report_machines import make_finding

import bedplate
from bedplate.catalog.findings import read_findings
from bedplate.catalog.kernel_log import read_kernel_messages
from bedplate.catalog.knobs import read_knobs
from bedplate.host.record.redact_facts import hide_in_conclusions
from bedplate.host.secrets.secrets import hide_secrets_in
from bedplate.model.facts.finding import Severity

RULES = Path(bedplate.__file__).parent / "plan" / "rules"


def texts_of(source: str) -> Iterator[str]:
    """Every text of a module, but for its docstrings; a number stands for what a formatted text gets of a machine."""
    tree = ast.parse(source)
    formatted = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
    parts = {id(part) for text in formatted for part in text.values}
    parts |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for text in formatted:
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "7" for part in text.values)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield node.value


def test_no_text_of_a_check_looks_like_a_secret() -> None:
    texts = [text for path in sorted(RULES.rglob("*.py")) for text in texts_of(path.read_text())]
    assert len(texts) > 1000
    assert [text for text in texts if "\n".join(map(hide_secrets_in, text.split("\n"))) != text] == []


def test_a_text_of_the_catalogue_stays_in_a_finding() -> None:
    """Even one that looks like a secret; the same words with a secret of the machine in them do not."""
    rows = (*read_findings(), *read_knobs(), *read_kernel_messages().rows)
    odd = "require_key = false, as development images have it"
    (row, *_) = read_findings()
    finding = replace(
        make_finding(row.id, Severity.LOW, "its HF_TOKEN=planted is set"), effect=odd, fix=(odd, f"{odd} planted")
    )
    (clean,) = hide_in_conclusions((finding,), make_facts(), rows=(*rows, replace(row, effect=odd)))
    assert clean.effect == odd and clean.fix[0] == odd
    assert "planted" not in repr(clean)
    (hidden,) = hide_in_conclusions((finding,), make_facts(), rows=rows)
    assert hidden.effect != odd


@pytest.mark.parametrize(
    "text",
    [
        "50,404 tokens/s and 6,034 ms to the first token at p99 with isolcpus",
        "each token waits for them",
        "sd 0:0:0:0: [sda] tag#12 Sense Key : Hardware Error [current]",
    ],
)
def test_a_sentence_about_tokens_and_keys_stays(text: str) -> None:
    assert hide_secrets_in(text) == text


@pytest.mark.parametrize(
    "text",
    ["Authorization: token planted", "token v2ZqTplanted0b9L", "Token plantedplanted", "Bearer planted", "key: planted"],
)
def test_a_token_behind_its_scheme_is_hidden(text: str) -> None:
    assert "planted" not in hide_secrets_in(text)
