"""What a run of the tests says at its end: the time of each part, and every skip by its reason.

With --expected-skips FILE a skip whose reason matches no line of FILE fails the run: on the project's own machines
everything that the tests need is installed, so a skip there is a test that silently stopped running. A line is a regular
expression; empty lines and lines that start with # do not count.

With --start-within SECONDS no further file of tests is started after that time; what is left out is a skip that says so.
"""

from __future__ import annotations

import re
import time
from collections import Counter, defaultdict
from pathlib import Path

import pytest

_START = pytest.StashKey[float]()


class SkipsAndTimes:
    """Collects the reports of one run."""

    def __init__(self, expected: tuple[re.Pattern[str], ...] | None) -> None:
        self.expected = expected
        self.skips: Counter[str] = Counter()
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.tests: Counter[str] = Counter()
        self.started: set[Path] = set()

    @property
    def unexpected(self) -> list[str]:
        """Reasons that no line of the list names; empty without a list."""
        if self.expected is None:
            return []
        return [reason for reason in self.skips if not any(pattern.search(reason) for pattern in self.expected)]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if item.path not in self.started:
            within_s = item.config.getoption("--start-within")
            if within_s is not None and time.monotonic() - item.config.stash[_START] > within_s:
                pytest.skip(f"left out: {within_s:.0f} s had passed")
            self.started.add(item.path)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        part = "/".join(report.nodeid.split("/")[:2]) if report.nodeid.count("/") > 1 else "tests"
        self.seconds[part] += report.duration
        if report.when == "call" or (report.when == "setup" and report.skipped):
            self.tests[part] += 1
        if report.skipped and not hasattr(report, "wasxfail"):
            self.skips[_reason(report)] += 1

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self.skips[_reason(report)] += 1

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
        elapsed = time.monotonic() - config.stash[_START]
        terminalreporter.section("time of each part")
        for part, seconds in sorted(self.seconds.items(), key=lambda item: -item[1]):
            terminalreporter.write_line(f"{_minutes(seconds):>8}  {part} ({self.tests[part]} tests)")
        terminalreporter.write_line(f"{_minutes(elapsed):>8}  in all")
        if self.skips:
            terminalreporter.section(f"{sum(self.skips.values())} skipped")
            for reason, count in sorted(self.skips.items()):
                mark = "  NOT EXPECTED" if reason in self.unexpected else ""
                terminalreporter.write_line(f"{count:>6}  {reason}{mark}")

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.unexpected and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--expected-skips",
        type=Path,
        metavar="FILE",
        help="fail when a test is skipped for a reason that FILE does not name",
    )
    parser.addoption(
        "--start-within",
        type=float,
        metavar="SECONDS",
        help="start no further file of tests after that time; what is left out is skipped",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_START] = time.monotonic()
    file = config.getoption("--expected-skips")
    config.pluginmanager.register(SkipsAndTimes(read_expected(file) if file is not None else None))


def read_expected(file: Path) -> tuple[re.Pattern[str], ...]:
    """The regular expressions of the list, in its order. Raises pytest.UsageError naming a line that is none."""
    patterns = []
    for number, line in enumerate(file.read_text().splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            try:
                patterns.append(re.compile(line.strip()))
            except re.error as error:
                raise pytest.UsageError(f"{file}:{number}: {line.strip()!r} is no regular expression: {error}") from error
    return tuple(patterns)


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    return str(report.longrepr)


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
