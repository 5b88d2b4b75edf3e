"""What a recording of a machine holds, as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping


def render_recorded(manifest: Mapping[str, object], sizes: Mapping[str, int]) -> str:
    """A line for each file with its size in bytes, then one for each that is denied or absent; "" for none.

    manifest is MANIFEST.json of the archive. A character of a name that cannot be printed is a question mark.
    """
    return "".join(f"{line}\n" for line in _lines(manifest, sizes))


def render_written(file: str, files: int, size_bytes: int, took_s: float, replaced: Mapping[str, int]) -> str:
    """The archive that was written, how many files it has, what was replaced in them, and how to look into it; lines."""
    return (
        f"wrote {file}: {files} files in {max(1, size_bytes // 1024)} KiB, {took_s:.1f} s\n"
        f"replaced: {render_replaced(replaced)}\n"
        f"Check what it contains before you pass it on: tar -xOf {file} MANIFEST.json\n"
    )


def render_replaced(replaced: Mapping[str, int]) -> str:
    """How many identifiers of each kind were replaced: "3 MAC address, 1 serial number"; "no identifier" for none."""
    return ", ".join(f"{count} {kind}" for kind, count in replaced.items()) or "no identifier"


def _lines(manifest: Mapping[str, object], sizes: Mapping[str, int]) -> Iterator[str]:
    for path, size in sizes.items():
        yield f"{size:>9}  {_plain(path)}"
    for key, word in (("denied", "denied"), ("denied_names", "denied"), ("absent", "absent")):
        paths = manifest[key]
        for path in paths if isinstance(paths, list) else ():
            yield f"{word:>9}  {_plain(str(path))}"


def _plain(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)
