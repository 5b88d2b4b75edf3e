"""How fast a disk is, as text."""

from __future__ import annotations

from bedplate.model.device_speed import LEAST_KEPT_PCT, DeviceSpeed


def render_device_speed(speed: DeviceSpeed) -> str:
    """The disk, its reads and writes, and what io.cost leaves of an undisturbed load; ends with a line end."""
    rows = [
        ("disk", f"{speed.device} ({speed.number}) {speed.model}".strip()),
        ("reads", f"{speed.read_bytes_per_s / 1e6:.0f} MB/s, {speed.read_seq_iops} sequential and"),
        ("", f"{speed.read_rand_iops} random operations per second, p95 {speed.read_p95_us} us one at a time"),
        ("writes", f"{speed.write_bytes_per_s / 1e6:.0f} MB/s, {speed.write_seq_iops} sequential and"),
        ("", f"{speed.write_rand_iops} random operations per second, p95 {speed.write_p95_us} us one at a time"),
    ]
    kept = speed.kept_pct
    told = "not tried" if kept is None else f"leaves {kept} % of the speed of an undisturbed load"
    rows.append(
        ("io.cost", told + (f"; `tune` uses io.cost if this is {LEAST_KEPT_PCT} % or more" if kept is not None else ""))
    )
    return "".join(f"{name:<8}{value}\n" for name, value in rows)
