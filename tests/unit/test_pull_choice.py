"""Which files of a repository are fetched, whose token is sent, and how a download is paced: tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedplate.act.download.pace import ConnectionPlan, Pace
from bedplate.act.download.transfer import wait_after
from bedplate.errors import BedplateError, ModelRefused, ReadError, UsageError
from bedplate.model.download import Patience
from bedplate.model.launch import Format
from bedplate.model.pulling import AddressSource, HubSource, PathSource, Repository, RepositoryFile
from bedplate.weights.pull.choose import choose_files
from bedplate.weights.pull.hub import parse_file
from bedplate.weights.pull.spec import parse_pull_source
from bedplate.weights.pull.token import read_hub_settings

TOKEN = "hf_abc"


def repository(*paths: str) -> Repository:
    files = tuple(RepositoryFile(path=path, size_bytes=1000 + len(path), digest=None) for path in sorted(paths))
    return Repository(
        source=HubSource(repository="o/n"), endpoint="https://h.example", commit="0" * 40, files=files, left_out=()
    )


MANY = (
    *("m-Q4_0.gguf", "m-Q4_0_4_4.gguf", "m-Q4_K_M.gguf", "m-F16.gguf", "m.imatrix.gguf", "README.md"),
    *(f"Q8_0/m-Q8_0-{number:05d}-of-00003.gguf" for number in (1, 2, 3)),
    *(f"BF16/m-BF16-{number:05d}-of-00002.gguf" for number in (1,)),
)
SEEING = ("m-Q4_0.gguf", "mmproj-F16.gguf")
BOTH = ("config.json", "model.safetensors", "m-Q4_0.gguf")
SAFE = (
    "config.json",
    "tokenizer.json",
    "model.safetensors",
    "consolidated.safetensors",
    "x.py",
    "pytorch_model.bin",
    "sub/a.json",
)


@pytest.mark.parametrize(
    ("files", "pattern", "projector", "expected"),
    [
        (("m.gguf",), "", "", ["m.gguf"]),
        (MANY, "q4_k_m", "", ["m-Q4_K_M.gguf"]),
        (MANY, "m-Q4_0", "", ["m-Q4_0.gguf"]),
        (MANY, "m-Q4_0.gguf", "", ["m-Q4_0.gguf"]),
        (MANY, "*Q8_0*", "", [f"Q8_0/m-Q8_0-{number:05d}-of-00003.gguf" for number in (1, 2, 3)]),
        (MANY, "Q8_0/m-Q8_0-00002-of-00003.gguf", "", [f"Q8_0/m-Q8_0-{number:05d}-of-00003.gguf" for number in (1, 2, 3)]),
        (SEEING, "", "", ["m-Q4_0.gguf", "mmproj-F16.gguf"]),
        (SEEING, "", "none", ["m-Q4_0.gguf"]),
        ((*SEEING, "mmproj-F32.gguf"), "", "mmproj-F32.gguf", ["m-Q4_0.gguf", "mmproj-F32.gguf"]),
        (BOTH, "", "", ["m-Q4_0.gguf"]),
        (SAFE, "", "", ["config.json", "tokenizer.json", "model.safetensors"]),
    ],
)
def test_the_files_of_one_model(files: tuple[str, ...], pattern: str, projector: str, expected: list[str]) -> None:
    choice = choose_files(repository(*files), pattern=pattern, projector=projector)
    assert [file.path for file in choice.files] == expected
    assert choice.format is (Format.GGUF if expected[0].endswith(".gguf") else Format.SAFETENSORS)


@pytest.mark.parametrize(
    ("files", "pattern", "projector", "error", "message"),
    [
        (MANY, "", "", ModelRefused, r"has 6 models; there are:\n  1010 B: m-F16\.gguf"),
        (MANY, "q4", "", ModelRefused, "has 3 models with q4 in their names"),
        (MANY, "BF16", "", ModelRefused, "has 1 of 2 parts"),
        (MANY, "Q2_K", "", UsageError, "--file Q2_K: no model"),
        (MANY, "imatrix", "", UsageError, "--file imatrix: no model"),
        ((*SEEING, "mmproj-F32.gguf"), "", "", ModelRefused, "2 projectors"),
        (SEEING, "", "x.gguf", UsageError, "--mmproj x.gguf: is not a projector"),
        (("a/mmproj.gguf", "mmproj.gguf"), "", "", ModelRefused, "has no GGUF file"),
        (
            ("pytorch_model.bin", "config.json"),
            "",
            "",
            ModelRefused,
            "no safetensors beside a config.json; it has: bin, json",
        ),
        ((), "", "", ModelRefused, "has no GGUF file"),
        (SAFE, "Q4_0", "", UsageError, "has no GGUF model"),
    ],
)
def test_what_is_not_one_model(
    files: tuple[str, ...], pattern: str, projector: str, error: type[BedplateError], message: str
) -> None:
    with pytest.raises(error, match=message):
        choose_files(repository(*files), pattern=pattern, projector=projector)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hf:Org/Name-1.5", HubSource(repository="Org/Name-1.5")),
        ("hf:gpt2@refs/pr/1", HubSource(repository="gpt2", revision="refs/pr/1")),
        ("https://a.example/x?y", AddressSource(url="https://a.example/x?y")),
        ("HTTP://localhost/x", AddressSource(url="HTTP://localhost/x")),
        ("file:///a%20b/m.gguf", PathSource(path="/a b/m.gguf")),
        ("m:1.gguf", PathSource(path="m:1.gguf")),
        ("./hf", PathSource(path="./hf")),
    ],
)
def test_what_is_typed(text: str, expected: object) -> None:
    assert parse_pull_source(text) == expected


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"type": "directory", "path": "a"}, None),
        ("x", None),
        ({"type": "file", "path": "a/../b", "size": 1}, "a/../b"),
        ({"type": "file", "path": "/a", "size": 1}, "/a"),
        ({"type": "file", "path": "a", "size": True}, "a"),
        ({"type": "file", "path": "a", "size": 2**60}, "a"),
        ({"type": "file", "path": "a", "size": 7, "oid": "zz"}, RepositoryFile(path="a", size_bytes=7, digest=None)),
        (
            {"type": "file", "path": "a", "size": 7, "lfs": {"oid": "../x", "size": 9}},
            RepositoryFile(path="a", size_bytes=9, digest=None),
        ),
    ],
)
def test_rows_of_a_list(row: object, expected: object) -> None:
    assert parse_file(row) == expected


def test_where_a_token_is_looked_for(tmp_path: Path) -> None:
    home = tmp_path / ".cache/huggingface"
    home.mkdir(parents=True)
    (home / "token").write_text("from-home\n")
    (tmp_path / "named").write_text("from-file")
    (tmp_path / "hf-token").write_text("from-unit")
    base = {"HOME": str(tmp_path)}
    assert read_hub_settings(base).token == "from-home"
    assert read_hub_settings(base).endpoint == "https://huggingface.co"
    assert read_hub_settings(base | {"HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}).token == ""
    assert read_hub_settings(base | {"HF_HOME": str(tmp_path / "none")}).token == ""
    assert read_hub_settings(base | {"HF_TOKEN_PATH": str(tmp_path / "named")}).token == "from-file"
    assert read_hub_settings(base | {"HF_TOKEN": f" {TOKEN} "}).token == TOKEN
    assert read_hub_settings(base | {"HF_TOKEN": TOKEN, "CREDENTIALS_DIRECTORY": str(tmp_path)}).token == "from-unit"
    assert read_hub_settings(base | {"HF_TOKEN": TOKEN}, token_file=tmp_path / "named").token == "from-file"
    assert TOKEN not in repr(read_hub_settings(base | {"HF_TOKEN": TOKEN}))
    assert read_hub_settings({"HF_ENDPOINT": "https://m.example/hub/"}).endpoint == "https://m.example/hub"
    with pytest.raises(ReadError, match="cannot read the token"):
        read_hub_settings(base | {"HF_TOKEN_PATH": "/nowhere/token"})
    for bad in ("a b", "x" * 2000, "a\nb", "\u00fc"):
        with pytest.raises(UsageError, match="HF_TOKEN: is not a token") as caught:
            read_hub_settings({"HF_TOKEN": bad})
        assert bad not in str(caught.value)


def test_the_rate_and_the_time_left() -> None:
    pace = Pace(total_bytes=100 << 20)
    pace.record(0.0, 0)
    assert pace.describe() == "0 B of 100.0 MiB, 0 B/s"
    pace.record(2.0, 20 << 20)
    assert pace.describe() == "20.0 MiB of 100.0 MiB, 10.0 MiB/s, 8.0 s left"
    for second in range(3, 20):  # what was long ago does not count
        pace.record(second, (20 << 20) + (second - 2) * (1 << 20))
    assert pace.rate == 1 << 20


@pytest.mark.parametrize(
    ("rates", "starved", "expected"),
    [
        ([100, 200, 300, 400, 500], 1.0, 4),  # each connection brings as much as the first
        ([100, 101, 101], 1.0, 2),  # the second brought nothing: the link is full
        ([100, 100, 100], 0.1, 1),  # the disk is the limit
    ],
)
def test_connections_are_added_while_they_pay(rates: list[int], starved: float, expected: int) -> None:
    plan = ConnectionPlan(most=4)
    done, waited = 0, 0.0
    assert plan.update(0.0, 0, 0.0) == 1
    for number, rate in enumerate(rates):
        assert plan.update(2.0 * number + 1, done + rate, waited) == plan.count  # too early to say
        done, waited = done + 2 * rate, waited + 2 * starved
        plan.update(2.0 * (number + 1), done, waited)
    assert plan.count == expected


def test_waits_double_up_to_a_bound() -> None:
    patience = Patience(first_wait_s=1.0, longest_wait_s=10.0)
    assert [wait_after(failures, None, patience) for failures in (1, 2, 3, 4, 5)] == [1.0, 2.0, 4.0, 8.0, 10.0]
    assert [wait_after(1, asked, patience) for asked in (0.0, 5.0, 9999.0)] == [0.0, 5.0, 10.0]
