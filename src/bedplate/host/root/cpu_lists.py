"""Lists and masks of CPUs as the kernel writes them, bounded: "0-3,8" and "00000001,0000000f" (cpuset(7), "Formats")."""

from __future__ import annotations

from collections.abc import Callable

from bedplate.errors import ReadError

CPU_LIMIT = 16_384  # the most CPUs that a kernel is built for is 8192 (NR_CPUS of x86 and POWER)
_SHOWN = 80  # characters of a malformed text
NUMBERS_LIMIT = 1 << 20
_LIST_COST = 4  # of a list beside its numbers
_HEX = "0123456789abcdefABCDEF"
_DIGITS = 20  # of a number of 64 bits


class CpuSets:
    """Lists and masks of one machine: each text is parsed once, and all together are written out to a bound.

    "0-16383" is seven characters: a recording that holds it in a hundred thousand files, each with another CPU left out,
    would take gigabytes. A machine of 512 CPUs has some 2,000 numbers in all its different lists.
    """

    __slots__ = ("_known", "_left")

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, ...]] = {}
        self._left = NUMBERS_LIMIT

    def parse_list(self, text: str) -> tuple[int, ...]:
        """As parse_cpu_list. Raises ReadError also past the bound of the machine."""
        return self._parse("-" + text, text, parse_cpu_list)

    def parse_mask(self, text: str) -> tuple[int, ...]:
        """As parse_cpu_mask. Raises ReadError also past the bound of the machine."""
        return self._parse("x" + text, text, parse_cpu_mask)

    def _parse(self, key: str, text: str, parse: Callable[[str], tuple[int, ...]]) -> tuple[int, ...]:
        cpus = self._known.get(key)
        if cpus is None:
            if self._left < 0:
                raise ReadError(f"the lists of CPUs of this machine hold more than {NUMBERS_LIMIT} numbers")
            cpus = self._known[key] = parse(text)
            self._left -= len(cpus) + _LIST_COST
        return cpus


def parse_cpu_list(text: str) -> tuple[int, ...]:
    """CPUs of a kernel list: "0-2,8" -> (0, 1, 2, 8); "" -> (). Raises ReadError naming the text.

    A number past CPU_LIMIT is refused: "0-4000000000" in a hostile recording would take the memory of this machine. Ranges
    are joined before they are written out, so that naming one a million times costs no more than reading it.
    """
    ranges: set[tuple[int, int]] = set()
    for part in text.replace("\n", "").split(","):
        if not part.strip():
            continue
        first, dash, last = part.strip().partition("-")
        low, high = _number(first, text), _number(last if dash else first, text)
        if high >= CPU_LIMIT:
            raise ReadError(f"{text[:_SHOWN]!r} names a CPU past {CPU_LIMIT - 1}")
        ranges.add((low, high))
        if len(ranges) > CPU_LIMIT:
            raise ReadError(f"{text[:_SHOWN]!r} has more than {CPU_LIMIT} ranges")
    cpus: list[int] = []
    for low, high in sorted(ranges):
        cpus.extend(range(max(low, cpus[-1] + 1 if cpus else 0), high + 1))
    return tuple(cpus)


def _number(digits: str, text: str) -> int:
    number = parse_count(digits)
    if number is None:
        raise ReadError(f"{text[:_SHOWN]!r} is not a list of CPUs such as 0-3,8")
    return number


def parse_count(text: str) -> int | None:
    """A number of 64 bits in digits of ASCII; None for anything else."""
    digits = text.strip()
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= _DIGITS else None


def parse_cpu_mask(text: str) -> tuple[int, ...]:
    """CPUs of a kernel mask, 32-bit words with the highest first: "00000001,0000000f" -> (0, 1, 2, 3, 32).

    hwloc's "0x00000001,,0x0000000f" is read too: an empty word is zero. Raises ReadError naming the text.
    """
    cpus: list[int] = []
    words = text.strip().split(",")
    if len(words) > CPU_LIMIT // 32:
        raise ReadError(f"{text[:_SHOWN]!r} names a CPU past {CPU_LIMIT - 1}")
    for place, word in enumerate(reversed(words)):
        digits = word.strip().removeprefix("0x")
        if (len(words) > 1 and len(digits) > 8) or len(digits) > CPU_LIMIT // 4 or digits.strip(_HEX):
            raise ReadError(f"{text[:_SHOWN]!r} is not a mask of CPUs such as 00000000,0000000f")
        bits = int(digits or "0", 16)
        while bits:
            lowest = bits & -bits
            cpus.append(place * 32 + lowest.bit_length() - 1)
            bits ^= lowest
    return tuple(cpus)
