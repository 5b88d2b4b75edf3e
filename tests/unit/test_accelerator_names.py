from __future__ import annotations

import pytest
from tests.unit.facts_factory import make_facts, make_gpu, make_pci

from bedplate.catalog.accelerators import parse_accelerator_names, read_accelerator_names
from bedplate.errors import DataError
from bedplate.flows.audit import name_devices


def test_the_file_that_ships_is_whole() -> None:
    names = read_accelerator_names()
    assert names[0x10DE, 0x2330] == "NVIDIA H100 SXM5 80GB"
    assert names[0x1002, 0x74A1] == "AMD Instinct MI300X"


def test_all_problems_are_told_at_once() -> None:
    text = 'schema = 2\n[[maker]]\nvendor = 1\nnames = ["00ff A", "00ff B", "ff C", "00FF D"]\n'
    with pytest.raises(DataError) as caught:
        parse_accelerator_names(text, name="x.toml")
    assert [problem.split(": ")[1] for problem in caught.value.problems] == [
        "got 2, expected 1",
        "0001:00ff stands twice",
        "got 'ff C', expected four hexadecimal digits and a name",
        "got '00FF D', expected four hexadecimal digits and a name",
    ]


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
