"""AMD accelerators by lines of `rocm-smi --showallinfo` and its other options: "GPU[0] : Card Series: AMD MI300X".

The keys are those of its JSON, so the text is made into that document and read as such.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace

from bedplate.errors import ReadError
from bedplate.host.formats.rocm_smi import parse_rocm_smi, parse_rocm_smi_pci
from bedplate.host.formats.section import Section
from bedplate.host.formats.unrecorded import empty_facts
from bedplate.model.facts.host import HostFacts

BEGINS = re.compile(r"GPU\[\d{1,3}\]\s{0,8}: ")
CONTINUES = re.compile(r"GPU\[\d{1,3}\]|=+|Driver version: ")
_LINE = re.compile(r"GPU\[(\d{1,3})\]\s{0,8}: {0,4}([^:\t\n]{1,60}):\s{0,8}(\S.{0,200})")
_DRIVER = re.compile(r"Driver version:\s{0,8}(\S{1,60})")
_KEYS = {"Card Model": "Device ID"}
"""Titles of the text that stand under another name in the JSON."""
_CARDS_MOST = 1024


def parse_rocm_text(section: Section) -> HostFacts:
    """Cards by number, and their PCI devices where a bus is named. Raises ReadError without a line of a card."""
    cards: dict[str, dict[str, str]] = {}
    for line in section.text.split("\n"):
        match = _LINE.fullmatch(line.rstrip())
        if match is not None and len(cards) <= _CARDS_MOST:
            card = cards.setdefault(f"card{match[1]}", {})
            card.setdefault(_KEYS.get(match[2].strip(), match[2].strip()), match[3].strip())
    if not cards:
        raise ReadError('the text of rocm-smi has no line "GPU[0] : TITLE: VALUE"')
    driver = _DRIVER.search(section.text)
    if driver is not None:
        cards["system"] = {"Driver version": driver[1]}
    text = json.dumps(cards)
    return replace(empty_facts(section.file), pci=parse_rocm_smi_pci(text), accelerators=parse_rocm_smi(text))
