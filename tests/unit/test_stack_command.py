"""`bedplate stack`: wish to lock and back, from an inventory too, and what is refused."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.facts_factory import make_facts, make_gpu, make_pci

from bedplate.catalog.stack import read_stack
from bedplate.catalog.stack_lock import parse_lock
from bedplate.cli.main import main
from bedplate.errors import DataError, UsageError
from bedplate.flows.stack import StackRequest, find_choices, hardware_of, resolve_stack
from bedplate.model.bundle import CatalogBundle
from bedplate.model.stack import StackConflict, StackPolicy, StackRecord
from bedplate.plan.resolve.resolve import resolve
from bedplate.report.stack import render_lock

INVENTED = Path(__file__).parents[1] / "stack/invented.toml"
ROWS = read_stack(drop_ins=None)


def lock_of(request: StackRequest) -> StackRecord:
    answer = resolve_stack(request, catalogue=ROWS)
    assert isinstance(answer, StackRecord), answer
    return answer


def versions(record: StackRecord) -> dict[str, str]:
    return {choice.release.component: choice.release.version for choice in record.lock.choices}


A100 = StackRequest(engines=("vllm",), accelerators=("a100",))


def test_the_default_stack_of_a_data_centre_card_takes_the_newest_kernel_that_has_its_module() -> None:
    found = versions(lock_of(A100))
    assert found["kernel"] == "7.3.4"
    assert found["nvidia-driver"] == found["nvidia-userspace"] == "535.274.02-3"
    assert (found["vllm"], found["torch"], found["cuda"]) == ("0.19.1", "2.10.0", "12.8")


def test_two_runs_on_one_day_are_byte_equal_and_the_lock_reads_back() -> None:
    first, second = lock_of(A100), lock_of(A100)
    text = render_lock(first)
    assert text == render_lock(second)
    assert render_lock(parse_lock(text, name="stack.lock")) == text


def test_an_artefact_that_is_known_has_its_hash() -> None:
    vllm = next(choice.release for choice in lock_of(A100).lock.choices if choice.release.component == "vllm")
    assert vllm.file.startswith("vllm-0.19.1-")
    assert len(vllm.sha256) == 64


def test_a_choice_says_what_held_back_a_newer_one() -> None:
    vllm = next(choice for choice in lock_of(A100).lock.choices if choice.release.component == "vllm")
    assert "vllm 0.33.0" in vllm.held_back
    assert "CUDA 13 needs a driver >= 580" in vllm.held_back


def test_the_smallest_change_against_the_present_lock(tmp_path: Path) -> None:
    old = lock_of(replace(A100, require=("kernel ==6.12.118", "vllm ==0.18.1")))
    (tmp_path / "stack.lock").write_text(render_lock(old))
    present = replace(A100, present=tmp_path / "stack.lock")
    assert versions(lock_of(present)) == versions(old)
    moved = versions(lock_of(replace(present, require=("vllm ==0.19.1",))))
    assert moved["kernel"] == "6.12.118"
    assert {name for name, version in moved.items() if versions(old)[name] != version} == {"vllm"}
    assert versions(lock_of(replace(present, policy=StackPolicy.NEWEST)))["kernel"] == "7.3.4"


def test_a_pinned_stack_does_not_move(tmp_path: Path) -> None:
    (tmp_path / "stack.lock").write_text(render_lock(lock_of(replace(A100, require=("kernel ==6.12.118",)))))
    pinned = replace(A100, present=tmp_path / "stack.lock", policy=StackPolicy.PINNED)
    assert versions(lock_of(pinned))["kernel"] == "6.12.118"
    answer = resolve_stack(replace(pinned, require=("kernel ==7.3.4",)), catalogue=ROWS)
    assert isinstance(answer, StackConflict)
    assert any("is in the present lock" in link.sentence for link in answer.chain)
    with pytest.raises(UsageError, match="no present lock"):
        resolve_stack(replace(A100, policy=StackPolicy.PINNED), catalogue=ROWS)


def test_a_machine_without_accelerators_needs_a_source_of_the_cpu_build() -> None:
    request = StackRequest(engines=("transformers",), accelerators=())
    answer = resolve_stack(request, catalogue=ROWS)
    assert isinstance(answer, StackConflict)
    assert any("pytorch-cpu" in link.sentence for link in answer.chain)
    torch = next(
        choice.release
        for choice in lock_of(replace(request, sources=("debian", "pypi", "pytorch-cpu"))).lock.choices
        if choice.release.component == "torch"
    )
    assert (torch.source, torch.variant) == ("pytorch-cpu", "cpu")


def test_what_uv_found_in_the_registry_stands_in_the_rows() -> None:
    request = StackRequest(engines=("sglang",), accelerators=("h100",), sources=("debian", "pypi", "nvidia"))
    found = versions(lock_of(request))
    assert (found["sglang"], found["root"]) == ("0.5.23", "debian-12")
    answer = resolve_stack(replace(request, engines=("sglang ==0.5.21",)), catalogue=ROWS)
    assert isinstance(answer, StackConflict)
    assert "sglang-cuda-tile-withdrawn" in [link.fact for link in answer.chain]


def test_a_kernel_that_no_build_is_known_for_is_a_no() -> None:
    answer = resolve_stack(StackRequest(accelerators=("h100",), require=("kernel ==7.9.1",)), catalogue=ROWS)
    assert isinstance(answer, StackConflict)
    assert any("before a build of the module for it was seen" in link.sentence for link in answer.chain)


def test_an_invented_device_works_from_inventory_to_lock(tmp_path: Path) -> None:
    (tmp_path / "z900.toml").write_text(INVENTED.read_text())
    rows = read_stack(drop_ins=tmp_path)
    device = make_pci("0000:19:00.0", vendor=0x10DE, device=0xFFFF)
    facts = make_facts(pci=(device,), accelerators=(make_gpu(0, "0000:19:00.0"),))
    hardware = hardware_of(facts, rows)
    assert [found.id for found in hardware.accelerators] == ["z900"]
    with pytest.raises(UsageError, match="no device with the PCI id 10de:ffff"):
        hardware_of(facts, ROWS)
    from bedplate.catalog.stack_wish import WishFile, make_wish

    wish = make_wish(WishFile(schema=1, engines=("vllm ==0.33.0",), sources=("debian", "pypi", "invented")))
    answer = resolve(wish, hardware, rows)
    assert not isinstance(answer, StackConflict)
    assert any(choice.release.version == "700.10" for choice in answer.choices)


def test_a_recording_without_pci_devices_is_unknown_and_not_without_accelerators() -> None:
    with pytest.raises(UsageError, match="whether it has accelerators is unknown"):
        hardware_of(make_facts(pci=(), accelerators=()), ROWS)
    cpu_only = hardware_of(make_facts(pci=(make_pci(vendor=0x8086, device=1),), accelerators=()), ROWS)
    assert cpu_only.properties["gpu"] == ("none",)


def canonical_digest(text: str) -> str:
    """As docs/how-to/choose-a-stack.md says it, without a line of bedplate."""
    table = tomllib.loads(text)
    del table["sha256"]
    canonical = json.dumps(table, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def sealed_again(text: str) -> str:
    """A lock that was edited, with the digest of what it is now."""
    return text.replace(tomllib.loads(text)["sha256"], canonical_digest(text), 1)


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = main(["stack", *words])
    done = capsys.readouterr()
    return status, done.out, done.err


def test_the_command_writes_shows_explains_and_compares_locks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wish = tmp_path / "wish.toml"
    wish.write_text('schema = 1\nengines = ["llama-cpp"]\naccelerators = ["2x l4"]\nsources = ["debian"]\n')
    lock, other = str(tmp_path / "a.lock"), str(tmp_path / "b.lock")
    status, out, _ = run(capsys, "resolve", str(wish), "--output", lock)
    assert status == 0
    assert "ggml-backend" in out
    assert run(capsys, "resolve", str(wish), "--require", "kernel ==6.12.118", "--output", other, "--json")[0] == 0
    assert run(capsys, "show", lock)[1].count("evidence:") > 5
    status, out, _ = run(capsys, "diff", lock, other)
    assert status == 1
    assert "kernel: 7.3.4 (amd64, debian-13-backports) -> 6.12.118 (amd64, debian-13-security)" in out
    assert run(capsys, "diff", lock, lock)[0] == 0
    assert "why:" in run(capsys, "why", "nvidia-driver", str(wish))[1]
    assert "why:" in run(capsys, "why", "kernel", "--from-lock", lock)[1]
    assert "why:" in run(capsys, "why", "--from-lock", lock, "kernel")[1]
    assert "why:" in run(capsys, "why", "kernel", "--lock", other, str(wish))[1]
    assert "why:" in run(capsys, "why", "--lock", other, "kernel", "--policy", "newest", str(wish))[1]
    status, out, _ = run(capsys, "why", "kernel >=7.4", str(wish), "--json")
    assert status == 1
    assert json.loads(out)["possible"] is False


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("resolve",), "the wish is empty"),
        (("resolve", "--engine", "vlm"), "Did you mean 'vllm'?"),
        (("resolve", "--accelerator", "h10"), "Did you mean h100"),
        (("resolve", "--engine", "vllm 0.33"), "expected a bound such as"),
        (("resolve", "--engine", "vllm", "--source", "mars"), "no source 'mars'"),
        (("resolve", "--engine", "vllm", "--licence", "beer"), "no release has the licence 'beer'"),
        (("why", "doca", "--engine", "vllm"), "doca: the stack has no such component"),
        (("why", "kernel", "--from-lock", "a.lock", "wish.toml"), "wish.toml: a wish, beside --from-lock a.lock"),
        (("show", "/nonexistent/stack.lock"), "cannot read"),
    ],
)
def test_a_wrong_request_is_refused_with_a_way_out(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = run(capsys, *words)
    assert status in (1, 2)
    assert message in err
    assert "Traceback" not in err


def test_an_edited_lock_is_recognised_by_its_digest() -> None:
    """Whatever was edited; comments, blank lines and the order of keys do not count."""
    text = render_lock(lock_of(A100))
    table = tomllib.loads(text)
    assert table["sha256"] == canonical_digest(text)
    for old, new in (
        ('version = "7.3.4"', 'version = "7.3.5"'),
        (table["date"], "2025-01-01"),
        (table["catalogue"], "0" * 64),
        ("evidence = [", 'evidence = ["another", '),
        ("facts = [", 'facts = [\n  "a",'),
        (table["sha256"], "0" * 64),
    ):
        assert old in text
        with pytest.raises(DataError, match="the lock was changed after it was made"):
            parse_lock(text.replace(old, new, 1), name="stack.lock")
    lines = text.splitlines()
    lines[1:5] = reversed(lines[1:5])
    parse_lock("\n\n# a comment\n".join(["\n".join(lines), ""]), name="stack.lock")


def test_a_lock_without_its_digest_is_refused() -> None:
    text = re.sub("(?m)^sha256 = .*\n", "", render_lock(lock_of(A100)), count=1)
    with pytest.raises(DataError, match=r"lock\.sha256: missing"):
        parse_lock(text, name="stack.lock")


def test_bounds_are_no_question_to_a_lock() -> None:
    with pytest.raises(UsageError, match="nothing of bounds"):
        find_choices(lock_of(A100).lock, "kernel >=7")


def test_a_damaged_lock_or_wish_is_refused_with_every_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match=r"stack\.lock:lock\.date: missing"):
        parse_lock("schema = 1\n", name="stack.lock")
    wish = tmp_path / "wish.toml"
    wish.write_text('schema = 1\nengine = ["vllm"]\n')
    status, _, err = run(capsys, "resolve", str(wish))
    assert status == 1
    assert "did you mean 'engines'?" in err


def test_locks_of_one_version_with_other_files_differ(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock, edited = tmp_path / "a.lock", tmp_path / "b.lock"
    assert run(capsys, "resolve", "--engine", "vllm", "--accelerator", "h100", "--output", str(lock))[0] == 0
    digest = [line for line in lock.read_text().splitlines() if line.startswith("sha256 = ")][1]  # the first is the lock's
    edited.write_text(sealed_again(lock.read_text().replace(digest, f'sha256 = "{"0" * 64}"')))
    status, out, _ = run(capsys, "diff", str(lock), str(edited))
    assert status == 1
    assert f"sha256 {'0' * 64}" in out
    status, out, _ = run(capsys, "diff", str(lock), str(edited), "--json")
    assert len(json.loads(out)["differences"]) == 1


def test_locks_made_with_other_bundles_differ(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = lock_of(StackRequest(engines=("vllm",), accelerators=("h100",)))
    acme = [CatalogBundle(name="acme", sequence=n, date="2026-11-30", sha256=str(n) * 64) for n in (1, 2)]
    other = CatalogBundle(name="other", sequence=7, date="2026-11-29", sha256="7" * 64)
    old, new = tmp_path / "a.lock", tmp_path / "b.lock"
    old.write_text(render_lock(replace(record, bundles=(acme[0], other))))
    new.write_text(render_lock(replace(record, bundles=(acme[1],))))
    status, out, _ = run(capsys, "diff", str(old), str(new))
    assert (status, out.splitlines()) == (
        1,
        [
            f"bundle acme: 1 of 2026-11-30 (sha256 {'1' * 12}) -> 2 of 2026-11-30 (sha256 {'2' * 12})",
            f"bundle other: 7 of 2026-11-29 (sha256 {'7' * 12}) -> absent",
        ],
    )
    status, out, _ = run(capsys, "diff", str(old), str(new), "--json")
    table = json.loads(out)
    assert (status, table["differences"]) == (1, [])
    assert [row["bundle"] for row in table["bundles"]] == ["acme", "other"]
    assert run(capsys, "diff", str(old), str(old)) == (0, "The locks have the same components.\n", "")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('because = "', 'because = "\\u001b[31m', r"without control characters"),
        ('id = "vllm"', 'id = "vl\\nlm"', r"got the text 'vl\\nlm'"),
        ('sha256 = "', 'sha256 = "zz', r"sha256: got 'zz.*expected 64 digits"),
        ('id = "transformers"', 'id = "vllm"', r"vllm of layer vllm appears 2 times"),
    ],
)
def test_a_lock_edited_by_hand_is_checked(old: str, new: str, said: str) -> None:
    text = render_lock(lock_of(StackRequest(engines=("vllm",), accelerators=("h100",))))
    assert old in text
    with pytest.raises(DataError) as caught:
        parse_lock(text.replace(old, new), name="stack.lock")
    assert re.search(said, caught.value.message)
