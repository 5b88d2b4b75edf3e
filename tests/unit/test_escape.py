"""Names of files on a terminal: control characters stand as escapes in errors, hints, notes and progress."""

from __future__ import annotations

import io

import pytest

from bedplate.cli.talk import Talk, print_error
from bedplate.errors import UsageError
from bedplate.report.progress import PlainProgress

EVIL = "a\x1b[2J\x1b]0;x\x07\rb\x85c\u2028d\u202ee\x9bf"
SHOWN = "a\\x1b[2J\\x1b]0;x\\x07\\rb\\x85c\\u2028d\\u202ee\\x9bf"
WORDS = "naïve 模型 🧑\u200d🚀 é"


def test_errors_and_hints_keep_their_own_lines_only(capsys: pytest.CaptureFixture[str]) -> None:
    print_error(UsageError(f"{EVIL}: wrong\n{WORDS}: wrong too", hint=f"Rename {EVIL}."))
    assert capsys.readouterr().err == f"error: {SHOWN}: wrong\nerror: {WORDS}: wrong too\nhint: Rename {SHOWN}.\n"


def test_a_name_in_a_note_makes_no_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    Talk().note(f"left out: {EVIL}\nerror: forged {WORDS}")
    Talk().detail(EVIL)
    assert capsys.readouterr().err == f"left out: {SHOWN}\\nerror: forged {WORDS}\n  {SHOWN}\n"


def test_nor_does_one_in_progress_move_the_cursor() -> None:
    stream = io.StringIO()
    progress = PlainProgress(stream, clock=lambda: 0.0)
    progress.note(f"{EVIL}\nsecond")
    assert stream.getvalue() == f"[    0.0] {SHOWN}\n[    0.0] second\n"
