"""The list of models of an endpoint, as every caller reads it."""

from __future__ import annotations

import pytest

from bedplate.engines.served import ServedModel, parse_served


def test_the_models_are_read_in_their_order() -> None:
    body = '{"object": "list", "data": [{"id": "b", "owned_by": "vllm"}, {"id": "a", "owned_by": null}]}'
    assert parse_served(body) == (ServedModel(id="b", owner="vllm"), ServedModel(id="a"))
    assert parse_served(b'{"data": []}') == ()


@pytest.mark.parametrize(
    "body",
    ["", "[]", "1", '{"data": null}', '{"data": [1]}', '{"data": ["qwen"]}', '{"data": [{}]}', '{"data": [{"id": null}]}'],
)
def test_what_is_no_list_of_models_is_refused(body: str) -> None:
    """A row without a name was the model "None" for `ask`, and no row at all for `prove`."""
    with pytest.raises(ValueError):
        parse_served(body)
