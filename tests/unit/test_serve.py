"""`bedplate serve` on a recorded host: what it writes, what it refuses, and that doing it twice changes nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from bedplate.act import serving
from bedplate.act.serving import offer_huge_pages, render_environment, write_serving
from bedplate.cli.main import main
from bedplate.cli.serve import find_serving
from bedplate.errors import BedplateError, ModelRefused
from bedplate.host.root import Root
from bedplate.model.launch import Launch, Probe

HOST = Path(__file__).parents[1] / "machines/serving-host"


@pytest.fixture
def host(tmp_path: Path) -> Path:
    return Path(shutil.copytree(HOST, tmp_path / "host"))


def files(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): f"-> {path.readlink()}" if path.is_symlink() else path.read_text()
        for path in sorted(root.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def test_prepare_writes_what_the_units_read(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(host)
    assert main(["serve", "prepare", "--root", str(host)]) == 1
    printed = capsys.readouterr()
    assert "known-answer: llamacpp, 2 requests of 512 tokens" in printed.out
    assert "Qwen/Qwen3-8B: does not fit: 4.7 GiB weights + " in printed.err
    assert "lost: sha256/" in printed.err
    written = {path: text for path, text in files(host).items() if path not in before}
    instance = "run/bedplate/engine/known-answer"
    assert sorted(written) == [
        f"{instance}.env",
        f"{instance}.model",
        f"{instance}.raw",
        "run/bedplate/haproxy.cfg",
        "run/systemd/system/bedplate-engine@known-answer.service.d/50-memory.conf",
    ]
    assert written[f"{instance}.raw"] == "-> /dev/vdc"
    assert written[f"{instance}.model"] == f"-> /run/bedplate/models/sha256/{'1' * 64}"
    argv = "llama-server --model /run/bedplate/model/known-answer --alias known-answer "
    assert f'BEDPLATE_ENGINE_ARGV="{argv}' in written[f"{instance}.env"]
    assert "/usr/lib/bedplate/engine" not in written[f"{instance}.env"]


def test_a_second_time_changes_nothing_and_a_model_that_left_is_removed(host: Path) -> None:
    root = Root(host)
    found = find_serving(root, port=8080, affinity=None)
    first = write_serving(root, [service.served for service in found.services], found.front)
    assert (first.changed, first.same, first.gone, first.front_changed) == (("known-answer",), (), (), True)
    after = files(host)
    found = find_serving(root, port=8080, affinity=None)
    second = write_serving(root, [service.served for service in found.services], found.front)
    assert (second.changed, second.same, second.gone, second.front_changed) == ((), ("known-answer",), (), False)
    assert files(host) == after
    third = write_serving(root, [], "")
    assert (third.changed, third.same, third.gone, third.front_changed) == ((), (), ("known-answer",), True)
    assert not [path for path in files(host) if "known-answer" in path]


def test_a_boot_is_one_call_of_systemctl(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []
    monkeypatch.setattr("bedplate.act.run.run", lambda argv, *, timeout_s: calls.append(list(argv)))
    written = serving.Written(changed=("a",), same=(), gone=(), front_changed=True)
    serving.start_serving(written, front_runs=False)
    assert calls == [["systemctl", "start", "--no-block", "bedplate-engine@a.service", "bedplate-haproxy.service"]]
    calls.clear()
    written = serving.Written(changed=("b",), same=("a",), gone=("c",), front_changed=True)
    serving.start_serving(written, front_runs=True)
    assert [call[1] for call in calls] == ["daemon-reload", "stop", "restart", "reload-or-restart", "start"]


def test_show_changes_nothing_and_speaks_json(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(host)
    assert main(["serve", "show", "--json", "--root", str(host)]) == 1
    shown = json.loads(capsys.readouterr().out)
    assert [model["name"] for model in shown["models"]] == ["known-answer"]
    assert len(shown["problems"]) == 2
    assert files(host) == before


def test_a_missing_layer_is_said(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (host / "sys/block/vdc/serial").write_text("other\n")
    assert main(["serve", "show", "--root", str(host)]) == 1
    assert "no disk has the serial bp-llamacpp" in capsys.readouterr().err
    layers = host / "var/lib/bedplate/engines"
    layers.mkdir(parents=True)
    for version in ("0.7.0", "0.10.0"):
        (layers / f"llamacpp_{version}.raw").write_text("")
    assert main(["serve", "show", "--root", str(host)]) == 1
    assert "layer /var/lib/bedplate/engines/llamacpp_0.10.0.raw" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 2, "models": []}', '{"schema": 1, "models": [{"name": "x"}]}'])
def test_a_broken_index_is_an_error_with_its_name(host: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    (host / "run/bedplate/models/index.json").write_text(text)
    assert main(["serve", "show", "--root", str(host)]) == 1
    assert "/run/bedplate/models/index.json" in capsys.readouterr().err


def test_a_model_outside_the_directory_is_not_served(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = host / "run/bedplate/models/index.json"
    (host / "run/bedplate/secret").write_text("x")
    index.write_text(index.read_text().replace(f"sha256/{'1' * 64}", "../secret"))
    main(["serve", "show", "--root", str(host)])
    assert "known-answer: ../secret is not there" in capsys.readouterr().err


def test_a_word_that_needs_quotes_is_refused() -> None:
    probe = Probe(path="/", body="", expect="", deadline_s=1)
    launch = Launch(argv=("engine", "--x", "a b"), env=(), probe=probe, memory_bytes=1, socket="/x.sock")
    with pytest.raises(ModelRefused, match="'a b'"):
        render_environment(launch)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("always madvise [never]", "madvise"),
        ("[always] madvise never", "[always] madvise never"),
        ("always [madvise] never", "always [madvise] never"),
    ],
)
def test_huge_pages_are_offered_unless_somebody_chose(tmp_path: Path, before: str, after: str) -> None:
    switch = tmp_path / "sys/kernel/mm/transparent_hugepage/enabled"
    switch.parent.mkdir(parents=True)
    switch.write_text(before)
    if after == "madvise":  # a file, unlike the kernel, does not answer with brackets
        with pytest.raises(BedplateError, match="the kernel says madvise"):
            offer_huge_pages(Root(tmp_path))
    else:
        offer_huge_pages(Root(tmp_path))
    assert switch.read_text() == after


def test_a_kernel_without_huge_pages_is_left_alone(tmp_path: Path) -> None:
    offer_huge_pages(Root(tmp_path))
    assert list(tmp_path.iterdir()) == []
