"""The rows of the stack and their loader: what ships is whole, and a file that is wrong is refused with every problem."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bedplate.catalog.drop_ins import RowFile, RowKind, read_drop_ins, read_shipped
from bedplate.catalog.stack import STACK_DIRECTORY, parse_stack, read_stack
from bedplate.errors import DataError, ReadError
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


def test_rows_that_contradict_each_other_are_named_with_both_places(tmp_path: Path) -> None:
    """An id twice, a release twice, a PCI id of two devices; between files of the owner, and with those that ship."""
    device = '[[device]]\nid = "{}"\ntitle = "x"\npci = ["{}"]\n' + ROW
    release = f'[[release]]\ncomponent = "kernel"\nversion = "9.9"\nsources = ["debian-13"]\n{ROW}'
    (tmp_path / "a.toml").write_text("schema = 1\n" + device.format("q", "10de:fff0") + release)
    (tmp_path / "b.toml").write_text("schema = 1\n" + device.format("q", "10de:fff0") + release)
    with pytest.raises(DataError) as caught:
        read_stack(drop_ins=tmp_path)
    a, b = tmp_path / "a.toml", tmp_path / "b.toml"
    assert caught.value.problems == (
        f"device q: appears twice, in {a}:device[q] and in {b}:device[q]",
        f"PCI id 10de:fff0: appears twice, in {a}:device[q].pci and in {b}:device[q].pci",
        f"release kernel 9.9 (debian-13): appears twice, in {a}:release[kernel] and in {b}:release[kernel]",
    )
    a.write_text("schema = 1\n" + device.format("q", "10de:2330"))
    b.unlink()
    with pytest.raises(DataError) as caught:
        read_stack(drop_ins=tmp_path)
    assert f"PCI id 10de:2330: is of q in {a}:device[q].pci, and of h100 in accelerators.toml:h100.pci" in str(caught.value)


def test_two_rows_about_one_build_that_contradict_each_other_are_refused() -> None:
    """Of a range and an exception from it neither is wrong."""
    module = (
        '[[module]]\nid = "{}"\nmodule = ["nvidia-driver ==999"]\nkernel = "kernel {}"\nbuilds = {}\nbecause = "x"\n' + ROW
    )
    parse_stack(with_rows(module.format("q", ">=7, <=7.3", "true") + module.format("r", "==7.2", "false")))
    with pytest.raises(DataError) as caught:
        parse_stack(with_rows(module.format("q", "==7.2", "true") + module.format("r", "==7.2", "false")))
    (problem,) = caught.value.problems
    assert problem.startswith("module q and module r: one builds and one does not, for the same kernels, in ")
    assert problem.endswith("in site.toml:module[q] and site.toml:module[r]")


def test_an_accelerator_gives_a_device_its_pci_ids_and_its_name(tmp_path: Path) -> None:
    (tmp_path / "accelerators").mkdir()
    place = tmp_path / "accelerators/ours.toml"
    place.write_text(
        'schema = 1\n[[maker]]\nvendor = 0x10de\ndevice = "q"\nnames = ["fff1 Example Q"]\n'
        '[[maker]]\nvendor = 0x10de\ndevice = "nothing"\nnames = ["fff2 Example R"]\n'
    )
    (tmp_path / "a.toml").write_text(f'schema = 1\n[[device]]\nid = "q"\n{ROW}')
    with pytest.raises(DataError, match=r"ours\.toml:maker\[10de\]\.names: is of the device 'nothing', which no row"):
        read_stack(drop_ins=tmp_path)
    place.write_text(place.read_text().replace("nothing", "q").replace("Example R", "Example Q"))
    device = next(device for device in read_stack(drop_ins=tmp_path).devices if device.id == "q")
    assert (device.title, device.pci) == ("Example Q", ("10de:fff1", "10de:fff2"))
    place.unlink()
    with pytest.raises(
        DataError, match=r"a\.toml:device\[q\]\.title: missing; the rows of accelerators have 0 names for it"
    ):
        read_stack(drop_ins=tmp_path)


@pytest.mark.parametrize("kind", [".", "models", "accelerators", "bundles"])
@pytest.mark.parametrize("what", ["a pipe", "a device", "a directory", "a dangling link", "too large"])
def test_what_is_no_regular_file_is_refused_by_name(kind: str, what: str, tmp_path: Path) -> None:
    place = tmp_path / kind / "x.toml"
    place.parent.mkdir(exist_ok=True)
    expected = f"{place}: is {what}, expected a regular file"
    if what == "a pipe":
        os.mkfifo(place)
    elif what == "a device":
        place.symlink_to("/dev/zero")
    elif what == "a directory":
        place.mkdir()
    elif what == "a dangling link":
        place.symlink_to("nowhere")
        expected = f"{place}: cannot read: No such file or directory"
    else:
        with place.open("wb") as file:
            file.truncate(5 << 20)
        expected = f"{place}: is larger than 4 MiB"
    with pytest.raises(ReadError) as caught:
        read_stack(drop_ins=tmp_path)
        read_drop_ins(RowKind.MODELS, tmp_path)
    assert caught.value.message.startswith(expected)


def test_a_directory_that_cannot_be_listed_is_not_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "accelerators").write_text("")
    with pytest.raises(ReadError, match="accelerators: cannot list the files of rows in it: Not a directory"):
        read_stack(drop_ins=tmp_path)


@pytest.mark.parametrize("bad", ["h\\n100", "\\u001b[31m", "\\u202e", "\\u0000"])
def test_a_text_that_no_line_can_show_is_refused(bad: str) -> None:
    for rows in (
        f'[[device]]\nid = "{bad}"\ntitle = "x"\n{ROW}',
        f'[[release]]\ncomponent = "kernel"\nversion = "9{bad}"\nsources = ["debian-13"]\n{ROW}',
    ):
        with pytest.raises(DataError, match=r"site\.toml: got the text .*, expected one without control characters"):
            parse_stack(with_rows(rows))


def test_one_table_of_releases_does_not_make_a_million() -> None:
    variants = ", ".join(f'v{number} = ["a", "b"]' for number in range(20))
    rows = f'[[release]]\ncomponent = "kernel"\nversion = "9"\nsources = ["debian-13"]\nvariants = {{ {variants} }}\n{ROW}'
    with pytest.raises(DataError, match=r"site\.toml:release\[kernel\]: makes 1048576 releases"):
        parse_stack(with_rows(rows))


def test_all_problems_of_all_files_are_reported_at_once() -> None:
    with pytest.raises(DataError) as caught:
        texts = {"a.toml": "schema = 2\n", "b.toml": "not toml", "c.toml": "schema = 1\n[[device]]\n"}
        parse_stack(RowFile(name=name, text=text) for name, text in texts.items())
    text = str(caught.value)
    assert all(place in text for place in ("a.toml:schema", "b.toml: not TOML", "c.toml:device[0].id: missing"))
