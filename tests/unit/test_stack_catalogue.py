"""The rows of the stack and their loader: what ships is whole, and a file that is wrong is refused with every problem."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedplate.catalog.drop_ins import RowFile, read_shipped
from bedplate.catalog.stack import STACK_DIRECTORY, parse_stack, read_stack
from bedplate.errors import DataError
from bedplate.model.stack import CheckedBy, StackCatalogue, StackConflict, StackHardware, StackLock, StackWish
from bedplate.model.version_condition import parse_condition
from bedplate.plan.resolve.resolve import resolve

INVENTED = Path(__file__).parents[1] / "stack/invented.toml"
ROW = 'checked = "document"\ndate = "2026-11-28"\nevidence = ["a page"]\n'


@pytest.fixture(scope="module")
def shipped() -> StackCatalogue:
    return read_stack(drop_ins=None)


def with_rows(text: str) -> tuple[RowFile, ...]:
    """The files that ship, and one more."""
    shipped = tuple(read_shipped(path) for path in sorted(STACK_DIRECTORY.glob("*.toml")))
    return (*shipped, RowFile(name="site.toml", text="schema = 1\n" + text))


@pytest.mark.parametrize(
    ("condition", "version", "holds"),
    [
        ("driver ==550.163.01", "550.163.01-4~bpo13+1", True),
        ("driver ==535.274.02-3", "535.274.02-1~deb13u1", False),
        ("driver >=580", "580.126.09", True),
        ("driver >=580", "575.57.08", False),
        ("torch ==2.15", "2.15.0", True),
        ("torch ==2.13.0", "2.13.0+cpu", True),
        ("torch ==2.13.0+cpu", "2.13.0", False),
        ("kernel >=6.12.97, <6.13", "6.12.118", True),
        ("kernel <=6.12.96 | ==7.3.4", "7.3.4", True),
        ("kernel ==7.0.0-1019-nvidia", "7.0.0-31", False),
        ("kernel <7.3", "7.3~rc7", True),
        ("llama-cpp ==0.7.0", "1:0.7.0+dfsg-2", True),
        ("transformers !=5.5.*", "5.5.4", False),
        ("transformers !=5.5.*", "5.50.0", True),
        ("root ==debian-13", "debian-13-backports", False),
    ],
)
def test_a_condition_compares_versions_as_packages_write_them(condition: str, version: str, holds: bool) -> None:
    assert parse_condition(condition).holds_for((version,)) is holds


@pytest.mark.parametrize("text", ["kernel >=6.12, <6.13 | ==7.3.4", "cuda absent | >=12", "root.glibc >=2.35", "kernel"])
def test_a_condition_reads_back(text: str) -> None:
    assert str(parse_condition(text)) == text


@pytest.mark.parametrize("text", ["", "kernel 6.12", "kernel >=6.12,", "Kernel >=6", "kernel => 6", ">=6"])
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_condition(text)


def origins(rows: StackCatalogue) -> list[tuple[CheckedBy, tuple[str, ...]]]:
    """How each row is known, and its evidence."""
    found = [(device.checked, device.evidence) for device in rows.devices]
    found += [(release.checked, release.evidence) for release in rows.releases]
    found += [(fact.checked, fact.evidence) for fact in rows.facts]
    return found + [(module.checked, module.evidence) for module in rows.modules]


def test_every_way_of_knowing_is_used_and_no_row_that_ships_is_invented(shipped: StackCatalogue) -> None:
    ways = {checked for checked, _ in origins(shipped)}
    assert {CheckedBy.BUILT, CheckedBy.METADATA, CheckedBy.DOCUMENT, CheckedBy.THREAD} == ways


def test_no_row_names_a_machine_of_the_authors(shipped: StackCatalogue) -> None:
    texts = [text for _, evidence in origins(shipped) for text in evidence]
    assert [text for text in texts if " here" in text or "/work" in text or "/tmp" in text] == []


def test_a_drop_in_adds_a_device_and_a_release(tmp_path: Path, shipped: StackCatalogue) -> None:
    (tmp_path / "z900.toml").write_text(INVENTED.read_text())
    more = read_stack(drop_ins=tmp_path)
    assert {device.id for device in more.devices} - {device.id for device in shipped.devices} == {"z900"}
    assert more.digest != shipped.digest


@pytest.mark.parametrize(("host", "possible"), [({"nvswitch": ("yes",)}, True), ({}, False)])
def test_a_device_may_need_a_property_of_the_machine(host: dict[str, tuple[str, ...]], possible: bool) -> None:
    row = f'[[device]]\nid = "q"\ntitle = "a Q"\nneeds = ["host.nvswitch ==yes"]\n{ROW}'
    rows = parse_stack(with_rows(row))
    devices = tuple(device for device in rows.devices if device.id == "q")
    answer = resolve(StackWish(engines=()), StackHardware(accelerators=devices, properties=host), rows)
    assert isinstance(answer, StackLock) is possible
    if isinstance(answer, StackConflict):
        assert "a Q needs host.nvswitch ==yes" in [link.sentence for link in answer.chain]


def test_without_a_directory_of_drop_ins_the_rows_that_ship_count(tmp_path: Path, shipped: StackCatalogue) -> None:
    assert read_stack(drop_ins=tmp_path / "none") == shipped


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ("[[gadget]]\n", "site.toml:gadget: unknown key"),
        (f'[[device]]\nid = "h100"\ntitle = "x"\n{ROW}', "device h100: appears twice"),
        (f'[[device]]\nid = "q"\ntitle = "x"\npci = ["2330"]\n{ROW}', "site.toml:device[q].pci: got '2330'"),
        (f'[[device]]\nid = "q"\ntitle = "x"\nneeds = ["warp-core"]\n{ROW}', "device q: 'warp-core' names no component"),
        (f'[[release]]\ncomponent = "kernel"\nversion = "9"\nsources = ["moon"]\n{ROW}', "no source 'moon'"),
        (f'[[release]]\ncomponent = "kernel"\nsources = ["debian-13"]\n{ROW}', "expected version or versions"),
        (
            f'[[release]]\ncomponent = "kernel"\nversion = "9"\nsources = ["debian-13"]\nneeds = ["root >"]\n{ROW}',
            "release[kernel].needs: got '>'",
        ),
        (
            f'[[module]]\nid = "q"\nmodule = ["nvidia-driver"]\nkernel = "kernel >=6"\nbuilds = true\n{ROW}',
            "site.toml:module[q].kernel: got 'kernel >=6', expected an upper end",
        ),
        (
            f'[[module]]\nid = "q"\nmodule = ["nvidia-driver"]\nkernel = "kernel >=6"\nbuilds = false\n{ROW}',
            "site.toml:module[q].because: missing",
        ),
        (
            f'[[fact]]\nid = "q"\nkind = "rule"\nbecause = "x"\nwhen = ["kernel", "cuda"]\nneeds = ["torch"]\n{ROW}',
            "fact q: relates cuda, kernel, torch; a row relates two components at most",
        ),
        (
            '[[device]]\nid = "q"\ntitle = "x"\nchecked = "rumour"\ndate = "today"\nevidence = [""]\n',
            "expected one of built, metadata, document, thread",
        ),
        ('[[device]]\nid = "q"\ntitle = "x"\nchecked = "built"\ndate = "today"\nevidence = [""]\n', "got 'today'"),
    ],
)
def test_a_row_that_is_wrong_is_refused_with_its_place(rows: str, problem: str) -> None:
    with pytest.raises(DataError) as caught:
        parse_stack(with_rows(rows))
    assert problem in str(caught.value)


def test_all_problems_of_all_files_are_reported_at_once() -> None:
    with pytest.raises(DataError) as caught:
        texts = {"a.toml": "schema = 2\n", "b.toml": "not toml", "c.toml": "schema = 1\n[[device]]\n"}
        parse_stack(RowFile(name=name, text=text) for name, text in texts.items())
    text = str(caught.value)
    assert all(place in text for place in ("a.toml:schema", "b.toml: not TOML", "c.toml:device[0].id: missing"))
