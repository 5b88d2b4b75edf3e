from __future__ import annotations

import re
from pathlib import Path

from bedplate import errors


def test_the_table_of_exit_codes_is_what_the_classes_say() -> None:
    text = (Path(__file__).parents[2] / "docs/reference/exit-codes.md").read_text()
    documented = {(int(code), name) for code, name in re.findall(r"^\| (\d+) \| `(\w+)` \|", text, re.MULTILINE)}
    classes = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.BedplateError)]
    own = {(kind.exit_code, kind.__name__) for kind in classes if "exit_code" in vars(kind)}
    assert documented == own
