"""What verbs print and decide outside of the command line: results as JSON or text, texts of report, choices of flows."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from bedplate.cli.result import print_result
from bedplate.errors import ReadError, UsageError
from bedplate.flows.ask import choose_served
from bedplate.flows.logs import append_log, choose_log
from bedplate.flows.pages import check_page, write_page
from bedplate.report.clean import removed_objects, render_doomed, render_foreign, render_removed
from bedplate.report.models import render_made, render_shapes
from bedplate.report.plan import render_undone
from bedplate.report.recording import render_written


@pytest.mark.parametrize(("as_json", "printed"), [(True, '{\n "a": 1\n}\n'), (False, "text without an end")])
def test_a_result_is_json_or_text(*, as_json: bool, printed: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert print_result(argparse.Namespace(json=as_json), {"a": 1}, "text without an end") == 0
    assert capsys.readouterr().out == printed


def test_json_has_no_number_that_json_does_not_know() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        print_result(argparse.Namespace(json=True), float("nan"), "")


def test_what_a_clean_shows_has_no_control_characters() -> None:
    assert render_foreign([Path(f"/state/{number}") for number in range(10)]).splitlines()[-1].endswith(": 2 more")
    assert render_foreign([Path("/a\x1b[2J")]) == "kept, not made by bedplate: /a\\x1b[2J\n"
    entries = ((Path("/state/images"), 1 << 30), (Path("/cache/tools\n"), 1 << 29))
    lines = render_doomed(entries, keys_stay=True).splitlines()
    assert [len(lines), lines[1].endswith("/cache/tools\\n"), lines[2].split()[:2]] == [4, True, ["1.5", "GiB"]]
    assert render_removed(entries) == "Removed 1.5 GiB.\n" and render_removed(()) == "There is nothing to remove.\n"
    assert removed_objects(entries[:1]) == [{"path": "/state/images", "bytes": 1 << 30}]


def test_texts_of_models_recordings_and_undone_plans() -> None:
    rates = ("facts_exact", "phrasings_exact", "held_out_phrasings_exact", "held_out_questions_refused")
    made = render_made("/m.gguf", 1 << 20, 3_000_000, {name: {"right": 3, "asked": 4} for name in rates})
    assert made.splitlines()[0] == "/m.gguf: 1.0 MiB, 3 M parameters" and made.count("3 of 4") == 4
    shape = {"id": "llama-3.2-1b", "architecture": "llama", "layers": 16, "width": 2048, "vocabulary": 128256}
    assert render_shapes([shape]) == "llama-3.2-1b   llama, 16 layers of 2048, 128256 tokens\n"
    written = render_written("host.tar.zst", 7, 10, 0.26, {"MAC address": 3})
    assert written.splitlines()[:2] == ["wrote host.tar.zst: 7 files in 1 KiB, 0.3 s", "replaced: 3 MAC address"]
    assert render_undone(("a", "b")) == "2 steps reverted.\n"
    assert render_undone(()) == "No plan of bedplate is applied on this host.\n"


def test_a_log_is_chosen_by_its_name(tmp_path: Path) -> None:
    logs = {"build": tmp_path / "build.log", "up": tmp_path / "up.log"}
    assert choose_log("up", logs) == tmp_path / "up.log"
    with pytest.raises(UsageError, match="'serial': no such log; the logs are build, up"):
        choose_log("serial", logs)
    with pytest.raises(ReadError, match="no log has been written yet"):
        choose_log("up", {})


def test_a_log_that_cannot_be_written_fails_nothing(tmp_path: Path) -> None:
    append_log(tmp_path / "logs/up.log", "== boot")
    append_log(tmp_path / "logs/up.log", "== boot: done")
    assert [line.partition(" ")[2] for line in (tmp_path / "logs/up.log").read_text().splitlines()] == [
        "== boot",
        "== boot: done",
    ]
    append_log(tmp_path / "logs/up.log/below", "lost")


def test_a_closed_front_is_taken_to_serve_all_of_its_models() -> None:
    assert choose_served(("a", "b"), "http://127.0.0.1:1", closed=True) == ("a", [])


@pytest.mark.parametrize("where", ["", "none/page.html"])
def test_a_page_that_cannot_be_written_is_a_wrong_value_of_an_option(where: str, tmp_path: Path) -> None:
    """doctor called it AuditError, fit BedplateError with the status 1, and prove UsageError."""
    check_page(None)
    check_page(tmp_path / "page.html")
    with pytest.raises(UsageError, match=r"--html: .*: cannot be written: ") as caught:
        check_page(tmp_path / where)
    assert caught.value.exit_code == 2
    with pytest.raises(UsageError, match=r"--html: .*: cannot be written: "):
        write_page(tmp_path / where, "<html>")
    write_page(tmp_path / "page.html", "\ud800")
    assert json.loads(f'"{(tmp_path / "page.html").read_text()}"') == "\ud800"
