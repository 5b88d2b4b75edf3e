from __future__ import annotations

import tomllib

import pytest
from tests.unit.facts_factory import make_facts, make_gpu, make_pci

from bedplate.catalog.accelerators import parse_accelerators, read_accelerator_names, read_accelerator_tables
from bedplate.catalog.drop_ins import RowFile
from bedplate.catalog.stack import STACK_DIRECTORY, read_stack
from bedplate.errors import DataError
from bedplate.flows.audit import name_devices


def test_the_file_that_ships_is_whole() -> None:
    names = read_accelerator_names()
    assert names[0x10DE, 0x2330] == "NVIDIA H100 SXM5 80GB"
    assert names[0x1002, 0x74A1] == "AMD Instinct MI300X"


def test_all_problems_are_told_at_once() -> None:
    text = 'schema = 2\n[[maker]]\nvendor = 1\nnames = ["00ff A", "00ff B", "ff C", "00FF D"]\n'
    with pytest.raises(DataError) as caught:
        parse_accelerators([RowFile(name="x.toml", text=text)])
    assert list(caught.value.problems) == [
        "x.toml:schema: got 2, expected 1",
        "x.toml:maker[0001].names: got 'ff C', expected four hexadecimal digits and a name",
        "x.toml:maker[0001].names: got '00FF D', expected four hexadecimal digits and a name",
        "x.toml:maker[0001].names: 0001:00ff stands twice, here and in x.toml:maker[0001].names",
    ]


def test_a_pci_id_and_a_name_stand_in_one_place() -> None:
    """accelerators.toml has them, and its `device` joins them to the rows of the stack."""
    tables = tomllib.loads((STACK_DIRECTORY / "devices.toml").read_text())["device"]
    assert [table["id"] for table in tables if "pci" in table] == []
    names = [entry.name for entry in read_accelerator_tables().named]
    assert [table["title"] for table in tables if table.get("title") in names] == []
    assert all(device.pci and device.title for device in read_stack(drop_ins=None).devices)


def test_both_files_name_one_architecture_of_a_device() -> None:
    stack = read_stack(drop_ins=None)
    architecture = {device.id: device.properties["architecture"] for device in stack.devices}
    joined = [row for row in stack.accelerators if row.device]
    assert len(joined) > 20
    assert [row.id for row in joined if (row.arch,) != architecture[row.device]] == []


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("NVIDIA Corporation Device 2330", "NVIDIA H100 SXM5 80GB"),
        ("NVIDIA Corporation 2330", "NVIDIA H100 SXM5 80GB"),
        ("", "NVIDIA H100 SXM5 80GB"),
        ("NVIDIA H100 of the driver", "NVIDIA H100 of the driver"),
    ],
)
def test_only_a_device_without_a_name_gets_one(name: str, shown: str) -> None:
    gpu = make_gpu(0, "0000:19:00.0", name=name)
    facts = name_devices(make_facts(pci=(make_pci("0000:19:00.0", name=name),), accelerators=(gpu,)))
    assert (facts.pci[0].name, facts.accelerators[0].name) == (shown, shown)


def test_a_device_that_the_catalog_does_not_know_stays_as_it_is() -> None:
    facts = make_facts(pci=(make_pci("0000:19:00.0", device=0x9999, name="NVIDIA Corporation Device 9999"),))
    assert name_devices(facts).pci[0].name == "NVIDIA Corporation Device 9999"
