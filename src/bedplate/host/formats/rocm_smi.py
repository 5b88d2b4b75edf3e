"""AMD accelerators from the JSON of `rocm-smi --showallinfo --json` (ROCm 5 and 6): one object a card, and "system".

Keys are titles for people; a value that the card does not have is missing or "N/A".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from bedplate.errors import ReadError
from bedplate.host.accel.amd import VENDOR
from bedplate.host.accel.blank import make_accelerator
from bedplate.host.kernel.pcitree import finish_tree, make_device, parse_address
from bedplate.host.root.jsontext import parse_json
from bedplate.model.facts.pci import Accelerator, PciDevice
from bedplate.model.facts.reading import Reading, Unknown, known, missing

T = TypeVar("T")
_CARD = re.compile(r"card(\d{1,3})", re.ASCII)
_PAIR = re.compile(r"\(Topology\) Link type between DRM devices (\d{1,3}) and (\d{1,3})", re.ASCII)
_CLOCK = re.compile(r"\(?(\d{1,6})Mhz\)?", re.ASCII | re.IGNORECASE)


def parse_rocm_smi(text: str) -> tuple[Accelerator, ...]:
    """Accelerators by card number. Raises ReadError when the text is not such a document or has no card."""
    cards, system = _load(text)
    peers = _peers(system)
    return tuple(_accelerator(index, card, system, peers.get(index, ())) for index, card in cards)


def parse_rocm_smi_pci(text: str) -> tuple[PciDevice, ...]:
    """The cards as PCI devices with their NUMA node; no tree, since none is printed. Raises ReadError as above."""
    found: list[PciDevice] = []
    for index, card in _load(text)[0]:
        source = f"rocm-smi card{index}"
        address = parse_address(_first(card, "PCI Bus") or "")
        if address is None:
            continue
        node = _reading(card, source, int, "(Topology) Numa Node")
        if node.value is not None and node.value < 0:
            node = missing(Unknown.HIDDEN, node.source, node.text)
        name = _first(card, "Card series", "Card Series") or ""
        found.append(
            replace(
                make_device(address, class_code=0x038000, source=source),
                vendor=VENDOR,
                device=_reading(card, source, partial(int, base=16), "Device ID", "GPU ID").value or 0,
                name=name,
                numa_node=node,
            )
        )
    return finish_tree(found)


def _load(text: str) -> tuple[list[tuple[int, dict[str, Any]]], dict[str, Any]]:
    """(cards by number, "system")."""
    document = parse_json(text, "the text")
    if not isinstance(document, dict):
        raise ReadError("the JSON is not an object of cards")
    cards: dict[int, dict[str, Any]] = {}
    for key, card in document.items():
        match = _CARD.fullmatch(key)
        if match is not None and isinstance(card, dict):
            cards[int(match[1])] = card
    if not cards:
        raise ReadError('the JSON has no "card0" as `rocm-smi --json` prints it')
    system = document.get("system")
    return sorted(cards.items()), system if isinstance(system, dict) else {}


def _accelerator(
    index: int, card: dict[str, Any], system: dict[str, Any], peers: tuple[tuple[int, str], ...]
) -> Accelerator:
    source = f"rocm-smi card{index}"

    def ask(convert: Callable[[str], T], *keys: str) -> Reading[T]:
        return _reading(card, source, convert, *keys)

    return replace(
        make_accelerator(
            vendor="amd",
            index=index,
            name=_first(card, "Card series", "Card Series", "Card model", "Card Model") or "",
            address=parse_address(_first(card, "PCI Bus") or ""),
            why=Unknown.NOT_RECORDED,
            source=source,
        ),
        uuid=_first(card, "Unique ID") or "",
        memory_bytes=ask(int, "VRAM Total Memory (B)"),
        driver_version=_reading(system, "rocm-smi system", str, "Driver version"),
        power_limit_w=ask(float, "Max Graphics Package Power (W)"),
        power_draw_w=ask(float, "Average Graphics Package Power (W)", "Current Socket Graphics Package Power (W)"),
        sm_clock_mhz=ask(_clock, "sclk clock speed:"),
        utilization_pct=ask(float, "GPU use (%)"),
        temperature_c=ask(float, "Temperature (Sensor edge) (C)", "Temperature (Sensor junction) (C)"),
        peers=peers,
    )


def _first(card: dict[str, Any], *keys: str) -> str | None:
    return next((card[key] for key in keys if isinstance(card.get(key), str)), None)


def _reading(card: dict[str, Any], source: str, convert: Callable[[str], T], *keys: str) -> Reading[T]:
    for key in keys:
        value = card.get(key)
        if not isinstance(value, str):
            continue
        where = f"{source}: {key}"
        if value in ("N/A", ""):
            return missing(Unknown.ABSENT, where, value)
        try:
            return known(convert(value[:80]), where, value[:80])
        except (ValueError, OverflowError):
            return missing(Unknown.MALFORMED, where, value[:80])
    return missing(Unknown.NOT_RECORDED, f"{source}: {keys[0]}")


def _clock(value: str) -> int:
    match = _CLOCK.fullmatch(value)
    if match is None:
        raise ValueError(value)
    return int(match[1])


def _peers(system: dict[str, Any]) -> dict[int, tuple[tuple[int, str], ...]]:
    peers: dict[int, list[tuple[int, str]]] = {}
    for key, value in system.items():
        match = _PAIR.fullmatch(key)
        if match is not None and isinstance(value, str):
            a, b = int(match[1]), int(match[2])
            peers.setdefault(a, []).append((b, value[:20]))
            peers.setdefault(b, []).append((a, value[:20]))
    return {index: tuple(sorted(others)) for index, others in peers.items()}
