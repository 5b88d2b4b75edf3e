"""An accelerator of which nothing is known yet but its place: every reader starts here and fills in what it can tell."""

from __future__ import annotations

from typing import TypeVar

from bedplate.model.facts.pci import Accelerator
from bedplate.model.facts.reading import Reading, Unknown, missing

T = TypeVar("T")


def make_accelerator(
    *, vendor: str, index: int, name: str, address: str | None, why: Unknown, source: str, text: str = ""
) -> Accelerator:
    """An accelerator whose facts are all unknown for one reason, to be replaced one by one."""

    def unknown() -> Reading[T]:
        return missing(why, source, text)

    return Accelerator(
        vendor=vendor,
        index=index,
        name=name,
        address=address,
        uuid="",
        memory_bytes=unknown(),
        driver_version=unknown(),
        library_version=unknown(),
        persistence=unknown(),
        compute_mode=unknown(),
        ecc=unknown(),
        ecc_uncorrected=unknown(),
        mig=unknown(),
        power_limit_w=unknown(),
        power_default_w=unknown(),
        power_draw_w=unknown(),
        sm_clock_mhz=unknown(),
        max_sm_clock_mhz=unknown(),
        throttle_reasons=(),
        utilization_pct=unknown(),
        temperature_c=unknown(),
        fabric_state=unknown(),
        nvlinks_active=unknown(),
        nvlinks_total=unknown(),
        confidential=unknown(),
        processes=(),
        peers=(),
    )
