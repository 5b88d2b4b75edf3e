"""A wish's file is bounded before anything is solved."""

from __future__ import annotations

import pytest

from bedplate.catalog.stack_wish import parse_wish
from bedplate.errors import DataError


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("engines = [" + '"vllm",' * 101 + "]", "engines: got 101 entries, expected at most 100"),
        ('require = ["kernel ' + ">=6.1," * 200 + '>=6.1"]', "require: got 1212 characters in an entry"),
    ],
)
def test_a_wish_is_as_long_as_people_write_it(line: str, said: str) -> None:
    with pytest.raises(DataError) as caught:
        parse_wish(f"schema = 1\n{line}\n", name="wish.toml")
    assert said in caught.value.message
