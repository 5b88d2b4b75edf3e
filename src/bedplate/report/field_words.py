"""The text under each field of a dataclass, which Python itself does not keep: read from its source."""

from __future__ import annotations

import ast
import inspect


def read_field_words(cls: type) -> dict[str, str]:
    """Field or enum member -> its text on one line; a field without a text is missing. Raises OSError without the source."""
    tree = ast.parse(inspect.getsource(cls)).body[0]
    assert isinstance(tree, ast.ClassDef)
    words: dict[str, str] = {}
    for before, after in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
            text = " ".join(after.value.value.split())
            if isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name):
                words[before.target.id] = text
            elif isinstance(before, ast.Assign) and isinstance(before.targets[0], ast.Name):
                words[before.targets[0].id] = text
    return words
