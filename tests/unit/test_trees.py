"""The trees that are copied over the image: what starts a unit is a link to it, also after a copy that lost the links."""

from __future__ import annotations

from pathlib import Path

import pytest

IMAGE = Path(__file__).resolve().parents[2] / "image"
PULLED_IN = sorted(IMAGE.glob("os/*/usr/lib/systemd/system/*.wants/*")) + sorted(
    IMAGE.glob("os/*/usr/lib/systemd/system/*.requires/*")
)


def test_units_are_pulled_in() -> None:
    assert PULLED_IN


@pytest.mark.parametrize("link", PULLED_IN, ids=lambda link: link.name)
def test_what_pulls_a_unit_in_is_a_link_to_it(link: Path) -> None:
    assert link.is_symlink()
    assert link.readlink() == Path("..") / link.name
    assert link.resolve().is_file()


@pytest.mark.parametrize(
    "settings", sorted(IMAGE.glob("os/*/usr/lib/systemd/**/*.d/*.conf")), ids=lambda file: file.parent.name
)
def test_a_drop_in_has_settings(settings: Path) -> None:
    assert "\n[" in f"\n{settings.read_text()}"


@pytest.mark.parametrize("engine", sorted(IMAGE.glob("engines/*")), ids=lambda engine: engine.name)
def test_each_layer_names_its_engine_by_a_link(engine: Path) -> None:
    assert (engine / "tree/usr/lib/bedplate/engine").is_symlink()
