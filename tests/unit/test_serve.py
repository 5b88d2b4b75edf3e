"""`bedplate serve` on a recorded host: what it writes, what it refuses, and that doing it twice changes nothing."""

from __future__ import annotations

import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from bedplate.act import serving
from bedplate.act.serving import (
    ServingChange,
    compare_serving,
    hold_serving,
    offer_huge_pages,
    remove_engines,
    render_dropin,
    render_environment,
    write_engines,
)
from bedplate.cli.main import main
from bedplate.engines import ENGINES
from bedplate.errors import BedplateError, CommandTimeout, ModelRefused
from bedplate.flows.serve import find_layer, find_serving
from bedplate.host.root.root import Root
from bedplate.model.instance import layer_root_of, layer_unit_of
from bedplate.model.launch import Format, Launch, ModelRef, Probe
from bedplate.weights.index import render_index

HOST = Path(__file__).parents[1] / "machines/serving-host"

ALWAYS = ["bedplate-haproxy.service", "bedplate-supervise.service"]


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
    dropin = "run/systemd/system/bedplate-engine@known-answer.service.d/50-bedplate.conf"
    assert sorted(written) == [
        f"{instance}.env",
        f"{instance}.model",
        f"{instance}.plan",
        "run/bedplate/front.json",
        "run/bedplate/haproxy-tokens.cfg",
        "run/bedplate/haproxy.cfg",
        "run/bedplate/request.lua",
        dropin,
    ]
    assert "\nRequires=bedplate-layer@dev-vdc.service\nAfter=bedplate-layer@dev-vdc.service\n" in written[dropin]
    assert "\nRootDirectory=/run/bedplate/layer/dev-vdc\n" in written[dropin]
    assert written[f"{instance}.model"] == f"-> /run/bedplate/models/sha256/{'1' * 64}"
    argv = "llama-server --model /run/bedplate/model/known-answer --alias known-answer "
    assert f'BEDPLATE_ENGINE_ARGV="{argv}' in written[f"{instance}.env"]
    assert "/usr/lib/bedplate/engine" not in written[f"{instance}.env"]


def test_a_second_time_changes_nothing_and_a_model_that_left_is_removed(host: Path) -> None:
    root = Root(host)
    found = find_serving(root, port=8080, affinity=None)
    assert compare_serving(root, found.served) == change_of(new=("known-answer",))
    write_engines(root, found.served)
    after = files(host)
    found = find_serving(root, port=8080, affinity=None)
    assert compare_serving(root, found.served) == change_of(same=("known-answer",))
    write_engines(root, found.served)
    assert files(host) == after
    other_layer = replace(found.served[0], layer="/dev/vdx")
    assert compare_serving(root, [other_layer]) == change_of(changed=("known-answer",))
    assert compare_serving(root, []) == change_of(gone=("known-answer",))
    remove_engines(root, ["known-answer"])
    assert not [path for path in files(host) if "known-answer" in path]


def change_of(**sets: tuple[str, ...]) -> ServingChange:
    return ServingChange(**({"new": (), "same": (), "changed": (), "gone": ()} | sets))


def test_an_engine_keeps_its_plan_when_others_come_and_memory_and_cpus_change(host: Path) -> None:
    """Limits follow the memory of the moment: a model that is added must not restart those that serve."""
    index, root = host / "run/bedplate/models/index.json", Root(host)
    (host / "proc/meminfo").write_text("MemTotal: 2000000 kB\nMemAvailable: 1500000 kB\n")
    index.write_text(render_index([a_model("second")]))
    before = find_serving(root, port=8080, affinity=None)
    write_engines(root, before.served)
    (host / "proc/meminfo").write_text("MemTotal: 2000000 kB\nMemAvailable: 300000 kB\n")
    index.write_text(render_index([a_model("first"), a_model("second"), a_model("third")]))
    after = find_serving(root, port=8080, affinity={0})
    assert before.services[0].served in after.served
    assert "second" in compare_serving(root, after.served).same
    assert [service.model.name for service in after.services] == sorted(service.model.name for service in after.services)
    replanned = find_serving(root, port=8080, affinity={0}, plans={})
    assert "second" in {*compare_serving(root, replanned.served).changed, *compare_serving(root, replanned.served).gone}


def test_a_model_of_the_same_name_and_other_content_is_planned_anew(host: Path) -> None:
    index, root = host / "run/bedplate/models/index.json", Root(host)
    before = find_serving(root, port=8080, affinity=None)
    write_engines(root, before.served)
    other = replace(a_model("known-answer"), sha256="2" * 64, path=f"sha256/{'2' * 64}", context_length=256)
    (host / f"run/bedplate/models/sha256/{'2' * 64}").write_text("")
    index.write_text(render_index([other]))
    after = find_serving(root, port=8080, affinity=None)
    assert after.services[0].limits.context == 256
    assert compare_serving(root, after.served) == change_of(changed=("known-answer",))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"placement": {}}', '{"placement": {"cpus": 5}}'])
def test_a_plan_that_cannot_be_read_is_made_anew(host: Path, text: str) -> None:
    root = Root(host)
    before = find_serving(root, port=8080, affinity=None)
    write_engines(root, before.served)
    (host / "run/bedplate/engine/known-answer.plan").write_text(text)
    assert find_serving(root, port=8080, affinity=None).served == before.served


def test_a_boot_is_one_call_of_systemctl(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []
    monkeypatch.setattr("bedplate.act.run.run", lambda argv, *, timeout_s: calls.append(list(argv)))
    serving.start_serving(["a"])
    assert calls == [["systemctl", "start", "--no-block", "bedplate-engine@a.service", *ALWAYS]]


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


def test_of_several_layers_the_first_that_the_owner_signed_is_taken(host: Path) -> None:
    """A serial is anybody's: a stranger's disk with the right one was taken, and its unit then failed for ever."""
    root, engine = Root(host), ENGINES["llamacpp"]
    asked: list[str] = []

    def is_signed(path: str) -> bool:
        asked.append(path)
        return path in signed

    signed: set[str] = set()
    assert find_layer(root, engine, is_signed=is_signed) == "/dev/vdc"  # the only one; its unit verifies it
    assert asked == []
    disk, layers = host / "sys/block/vdd", host / "var/lib/bedplate/engines"
    for directory in (disk, layers):
        directory.mkdir(parents=True)
    (disk / "serial").write_text("bp-llamacpp\n")
    for version in ("0.7.0", "0.10.0"):
        (layers / f"llamacpp_{version}.raw").write_text("")
    every = [
        "/dev/vdc",
        "/dev/vdd",
        *(f"/{layers.relative_to(host)}/llamacpp_{version}.raw" for version in ("0.10.0", "0.7.0")),
    ]
    for number, path in enumerate(every):
        signed, asked[:] = {path, every[-1]}, []
        assert find_layer(root, engine, is_signed=is_signed) == path
        assert asked == every[: number + 1]
    assert find_layer(root, engine) == every[0]
    signed = set()
    with pytest.raises(ModelRefused, match=r"none of its layers is complete and signed by the owner: /dev/vdc, /dev/vdd, "):
        find_layer(root, engine, is_signed=is_signed)


def test_a_layer_that_takes_too_long_or_fails_is_not_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []
    state = "ActiveState=inactive\nNRestarts=0\n"

    def run(argv: list[str], *, timeout_s: float, env: dict[str, str] | None = None, split: bool = False) -> SimpleNamespace:
        if argv[0] == "systemctl":
            return SimpleNamespace(output=state)
        calls.append(argv)
        if len(calls) > 1:
            raise CommandTimeout("systemd-dissect: did not finish within its time limit", status=None)
        return SimpleNamespace(output="")

    monkeypatch.setattr("bedplate.act.run.run", run)
    assert serving.is_signed_layer("/dev/vdc")
    assert not serving.is_signed_layer("/dev/vdd")
    options = ["--read-only", "--image-policy=root=signed:=absent+unused"]
    assert calls[0] == ["systemd-dissect", *options, "--with", "/dev/vdc", "/bin/true"]
    monkeypatch.setattr(Path, "is_mount", lambda path: str(path) == "/run/bedplate/layer/dev-vde")
    assert serving.is_signed_layer("/dev/vde")  # its unit has mounted it
    assert not serving.is_signed_layer("/dev/vdf")
    assert len(calls) == 3
    # A second verity device beside the one that its unit makes now would disturb both; a unit that failed is no witness.
    state = "ActiveState=activating\nNRestarts=0\n"
    assert serving.is_signed_layer("/dev/vdg")
    state = "ActiveState=activating\nNRestarts=3\n"
    assert not serving.is_signed_layer("/dev/vdg")
    assert len(calls) == 4
    unit = (Path(__file__).parents[2] / "image/os/common/usr/lib/systemd/system/bedplate-layer@.service").read_text()
    assert f" --image-policy={serving.LAYER_POLICY} " in unit


def test_two_prepares_take_turns(host: Path) -> None:
    """At a boot both units can run: one wrote the engines' files while the other removed those it did not know."""
    root, done = Root(host), threading.Event()

    def prepare() -> None:
        main(["serve", "prepare", "--root", str(host)])
        done.set()

    other = threading.Thread(target=prepare)
    with hold_serving(root):
        other.start()
        assert not done.wait(1)
        assert not (host / "run/bedplate/haproxy.cfg").exists()
    assert done.wait(60)
    other.join(60)
    assert (host / "run/bedplate/haproxy.cfg").exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 3, "models": []}', '{"schema": 1, "models": [{"name": "x"}]}'])
def test_a_broken_index_is_an_error_with_its_name(host: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    (host / "run/bedplate/models/index.json").write_text(text)
    assert main(["serve", "show", "--root", str(host)]) == 1
    assert "/run/bedplate/models/index.json" in capsys.readouterr().err


def test_a_model_outside_the_directory_is_not_served(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = host / "run/bedplate/models/index.json"
    (host / "run/bedplate/secret").write_text("x")
    index.write_text(index.read_text().replace(f"sha256/{'1' * 64}", "../secret"))
    main(["serve", "show", "--root", str(host)])
    assert "known-answer: bad path or format: '../secret'" in capsys.readouterr().err


def test_a_word_that_needs_quotes_is_refused() -> None:
    probe = Probe(path="/", body="", expect="", heartbeat="/", deadline_s=1)
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
        with pytest.raises(BedplateError, match="the kernel shows madvise"):
            offer_huge_pages(Root(tmp_path))
    else:
        offer_huge_pages(Root(tmp_path))
    assert switch.read_text() == after


def test_a_kernel_without_huge_pages_is_left_alone(tmp_path: Path) -> None:
    offer_huge_pages(Root(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "instance"),
    [  # by `systemd-escape --path` of systemd 252
        ("/dev/vdb", "dev-vdb"),
        ("/var/lib/bedplate/engines/llamacpp_0.10.0.raw", "var-lib-bedplate-engines-llamacpp_0.10.0.raw"),
        ("/run/a-b c.raw", "run-a\\x2db\\x20c.raw"),
        ("/.hidden/.b/ä", "\\x2ehidden-.b-\\xc3\\xa4"),
    ],
)
def test_a_layer_s_unit_is_named_by_its_path(path: str, instance: str) -> None:
    assert layer_unit_of(path) == f"bedplate-layer@{instance}.service"
    assert layer_root_of(path) == f"/run/bedplate/layer/{instance}"


def test_engines_of_one_layer_share_its_mount_and_another_layer_has_its_own(host: Path) -> None:
    (host / "run/bedplate/models/index.json").write_text(render_index([a_model("first"), a_model("second")]))
    found = find_serving(Root(host), port=8080, affinity=None)
    first, second = (render_dropin(service.served) for service in found.services)
    assert first == second
    moved = render_dropin(replace(found.services[0].served, layer="/var/lib/bedplate/engines/llamacpp_0.8.0.raw"))
    assert "llamacpp_0.8.0.raw" in moved and "dev-vdc" not in moved


def test_two_names_for_one_file_are_two_engines_of_it(host: Path) -> None:
    (host / "run/bedplate/models/index.json").write_text(render_index([a_model("first"), a_model("second")]))
    assert main(["serve", "prepare", "--root", str(host)]) == 0
    written = files(host)
    assert written["run/bedplate/engine/first.model"] == written["run/bedplate/engine/second.model"]
    assert "--alias first " in written["run/bedplate/engine/first.env"]
    assert "--alias second " in written["run/bedplate/engine/second.env"]
    assert all(f"use_backend engine-{name} " in written["run/bedplate/haproxy.cfg"] for name in ("first", "second"))


def test_four_small_models_fit_into_two_gibibytes(host: Path) -> None:
    """Each of the size of the one that ships; the host has 2 GiB of which 1.5 are free."""
    (host / "proc/meminfo").write_text("MemTotal: 2000000 kB\nMemAvailable: 1500000 kB\n")
    names = ["first", "second", "third", "fourth"]
    (host / "run/bedplate/models/index.json").write_text(render_index([a_model(name) for name in names]))
    found = find_serving(Root(host), port=8080, affinity=None)
    assert ({service.model.name for service in found.services}, found.problems) == (set(names), ())
    assert sum(service.limits.memory_bytes for service in found.services) < 1_500_000 * 1024


def a_model(name: str) -> ModelRef:
    """The known-answer model of the recorded host under another name."""
    index = json.loads((HOST / "run/bedplate/models/index.json").read_text())
    row = next(row for row in index["models"] if row["name"] == "known-answer")
    return ModelRef(**{**row, "name": name, "format": Format(row["format"])})
