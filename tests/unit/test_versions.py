"""Debian's order of versions, with dpkg as the oracle where it is installed."""

from __future__ import annotations

import itertools
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedplate.model.versions import compare_versions, version_key

RISING = (
    "0.9.1",
    "0.10.0",
    "1.0~~",
    "1.0~~a",
    "1.0~",
    "1.0~rc1",
    "1.0~rc1-1",
    "1.0~rc2",
    "1.0",
    "1.0-1~bpo12+1",
    "1.0-1",
    "1.0-1+b1",
    "1.0-1+deb13u1",
    "1.0-1.1",
    "1.0a",
    "1.0rc1",
    "1.0+b1",
    "1.0.1",
    "6.8.0-9-generic",
    "6.8.0-31-generic",
    "6.12~rc1",
    "6.12",
    "6.12.117-1",
    "7.3.4-1~bpo13+1",
    "7.3.4-1",
    "1:0.1",
    "1:0.1-1",
    "2:0",
)
VERSIONS = st.text(alphabet="01289abz~+.-:", min_size=1, max_size=12)


def test_each_is_newer_than_all_before_it() -> None:
    for (at, left), (to, right) in itertools.product(enumerate(RISING), repeat=2):
        assert compare_versions(left, right) == (at > to) - (at < to), (left, right)


@pytest.mark.parametrize(("left", "right"), [("1.0", "1.00"), ("0:1.0", "1.0"), ("1.0", "1.0-0"), ("1.02", "1.2")])
def test_these_are_the_same_version(left: str, right: str) -> None:
    assert compare_versions(left, right) == 0


@pytest.mark.touches("spawn", why="dpkg is the oracle")
def test_dpkg_says_the_same() -> None:
    if shutil.which("dpkg") is None:
        pytest.skip("dpkg is not installed")
    pairs = [(left, right) for left, right in itertools.combinations((*RISING, "1.00", "0:1.0", "1.0-0"), 2)]
    script = "".join(
        f"dpkg --compare-versions '{left}' lt '{right}' && echo -1 || {{ dpkg --compare-versions '{left}' eq '{right}'"
        " && echo 0 || echo 1; }\n"
        for left, right in pairs
    )
    said = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert [(*pair, compare_versions(*pair)) for pair in pairs] == [
        (*pair, int(order)) for pair, order in zip(pairs, said, strict=True)
    ]


@given(VERSIONS, VERSIONS, VERSIONS)
def test_it_is_an_order(first: str, second: str, third: str) -> None:
    assert compare_versions(first, first) == 0
    assert compare_versions(first, second) == -compare_versions(second, first)
    low, middle, high = sorted((first, second, third), key=version_key)
    assert compare_versions(low, middle) <= 0 and compare_versions(middle, high) <= 0 and compare_versions(low, high) <= 0
