"""catalog/findings.toml and what the audit can say have the same ids; the loaders refuse what is wrong, all at once."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import bedplate.plan.rules.checks
from bedplate.catalog.findings import parse_findings, parse_suppressions, read_findings, read_suppressions
from bedplate.errors import DataError, ReadError
from bedplate.model.facts.finding import Severity
from bedplate.plan.rules.checks.engine_log import ROWS as NOTE_ROWS

PACKAGE = Path(bedplate.plan.rules.checks.__file__).parent
ROW = """
schema = 1
[[finding]]
id = "link.narrow"
title = "A link is narrow"
means = "m"
why = "w"
effect = "no evidence"
sources = []
check = ["lspci"]
severities = ["high", "low"]
"""


def produced() -> set[str]:
    """Ids that the package gives to observations: of calls of Observation, of rows of tables, or in a variable `id`."""
    found = {row.id for row in NOTE_ROWS.values()}
    for path in sorted(PACKAGE.glob("*.py")):
        for function in ast.walk(ast.parse(path.read_text())):
            if not isinstance(function, ast.FunctionDef):
                continue
            nodes = list(ast.walk(function))
            own = {
                node.value.value
                for node in nodes
                if isinstance(node, ast.Assign)
                and isinstance(node.targets[0], ast.Name)
                and node.targets[0].id == "id"
                and isinstance(node.value, ast.Constant)
            }
            for node in nodes:
                if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Observation"):
                    continue
                (id,) = (word.value for word in node.keywords if word.arg == "id")
                if ast.unparse(id) == "row.id":
                    continue
                assert isinstance(id, ast.Constant) or own, f"{path.name}:{node.lineno}: an id that this test cannot see"
                found |= {str(id.value)} if isinstance(id, ast.Constant) else {str(name) for name in own}
    return found


def test_every_finding_has_a_row_and_every_row_a_finding() -> None:
    rows = {row.id for row in read_findings()}
    assert produced() == rows
    assert len(rows) > 40


def test_rows_name_known_sources() -> None:
    for row in read_findings():
        assert not any(re.fullmatch(r"S\d+", source) for source in row.sources), row.id


def test_a_difference_from_a_lock_is_worth_no_more_than_its_evidence() -> None:
    """They were high, and their effect was "no evidence"."""
    rows = [row for row in read_findings() if row.id.startswith("stack.lock")]
    assert [row.id for row in rows] == ["stack.lock-drift", "stack.lock-missing"]
    assert [row.id for row in rows if not row.sources and {Severity.CRITICAL, Severity.HIGH} & set(row.severities)] == []


def test_a_good_row_is_read() -> None:
    (row,) = parse_findings(ROW, {}, name="findings.toml")
    assert row.id == "link.narrow" and [str(severity) for severity in row.severities] == ["high", "low"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("schema = 1", "schema = 2", "findings.toml:schema: got 2, expected 1"),
        ("schema = 1", "schema = 1\nother = 3", "findings.toml:other: unknown key"),
        ('why = "w"', 'whi = "w"', "did you mean 'why'?"),
        ('why = "w"', 'why = " "', "why: is empty"),
        ('effect = "no evidence"', 'effect = "twice"', "an effect needs a source"),
        ("sources = []", 'sources = ["S1"]', 'and "no evidence" has none'),
        ('effect = "no evidence"\nsources = []', 'effect = "x"\nsources = ["S999"]', "S999 is not in sources.toml"),
        ('severities = ["high", "low"]', 'severities = ["low", "high"]', "most severe first"),
        ('severities = ["high", "low"]', 'severities = ["dire"]', "expected one of"),
        ('check = ["lspci"]', "check = []", "how is it seen by hand?"),
        ('id = "link.narrow"', 'id = "Link Narrow"', "expected group.some-words"),
        ("[[finding]]", "[finding]", "expected [[finding]] tables"),
    ],
)
def test_a_wrong_row_is_refused(old: str, new: str, message: str) -> None:
    assert old in ROW
    with pytest.raises(DataError) as raised:
        parse_findings(ROW.replace(old, new), {"S1": "one"}, name="findings.toml")
    assert message in str(raised.value)


def test_all_problems_at_once_and_ids_once() -> None:
    text = ROW + ROW.replace("schema = 1", "").replace('why = "w"', 'why = ""')
    with pytest.raises(DataError) as raised:
        parse_findings(text, {}, name="f")
    assert len(raised.value.problems) == 2


# -- suppressions

GOOD = """
schema = 1
[[suppress]]
id = "quota.set"
where = "pid *"
reason = "the tenant pays for four CPUs"
until = 2027-03-31
[[suppress]]
id = "knob.cpu.smt"
reason = "decided by the security team"
"""


def test_suppressions_are_read() -> None:
    first, second = parse_suppressions(GOOD, name="s")
    assert (first.id, first.where, first.until) == ("quota.set", "pid *", "2027-03-31")
    assert (second.where, second.until) == ("*", None)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('reason = "the tenant pays for four CPUs"\n', "", "reason: missing"),
        ('reason = "the tenant pays for four CPUs"', 'reason = "later"', "say why, in a sentence"),
        ('id = "quota.set"', 'id = "everything *"', "expected the id of a finding"),
        ("until = 2027-03-31", 'until = "soon"', "expected a date such as 2027-03-31"),
        ("until = 2027-03-31", 'until = "2027-02-31"', "expected a date such as 2027-03-31"),
        ("until = 2027-03-31", "until = 2027", "until: got"),
        ('where = "pid *"', 'wher = "pid *"', "did you mean 'where'?"),
        ('where = "pid *"', 'where = ""', "leave it out for every place"),
        ("schema = 1\n", "", "schema: got None, expected 1"),
        ("schema = 1\n", "schema = 1\n= ", "not TOML"),
    ],
)
def test_wrong_suppressions_are_refused(old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(DataError) as raised:
        parse_suppressions(GOOD.replace(old, new, 1), name="s")
    assert message in str(raised.value)


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ReadError):
        read_suppressions(tmp_path / "none.toml")
    (tmp_path / "s.toml").write_text(GOOD)
    assert len(read_suppressions(tmp_path / "s.toml")) == 2
