"""Coverage-guided fuzzing of the parsers with atheris, a package that no lock here holds.

    python -m tests.fuzz.run -max_total_time=600 tests/fuzz/corpus

The first byte of an input chooses the parser. Only ReadError and ModelRefused may escape; anything else, more than 512 MB or
more than 10 s for one input stops the run and is written down. The corpus that stays in tests/fuzz/corpus is replayed by
tests/unit/test_corpus.py: inputs of the runs below, each of which reaches a line by a way that no shorter one does.

2026-11-24, ten minutes on one CPU: 1,056,630 inputs; an IndexError of parse_lspci in the first second, mended before; then
none.

2026-11-28, ten minutes on a fifth of a CPU, ten more readers (command lines, redaction, whole machines, GGUF, safetensors
and others) and seeds of recorded machines: 13,892 inputs, nothing but refusals.

2026-11-29, ten minutes on a busy host, GGUF files of every role, indexes of models and HAProxy's statistics among the
readers: 105,384 inputs, nothing but refusals; none took a second, and 52 MB at the most.

2026-12-01, ten minutes on a busy host, pasted texts alone, from short ones of tests/pasted, dcgmi and Python sessions:
109,482 inputs, nothing but refusals, 57 MB.
"""

from __future__ import annotations

import sys
from contextlib import suppress

if {"-h", "--help"} & set(sys.argv[1:]):  # atheris takes them for options of its own, and begins
    print(__doc__)
    sys.exit(0)

import atheris

with atheris.instrument_imports(include=["bedplate"]):
    from tests.fuzz.parsers import NAMES, PARSERS, REFUSALS


def feed(data: bytes) -> None:
    """One input."""
    if len(data) > 1:
        with suppress(*REFUSALS):
            PARSERS[NAMES[data[0] % len(NAMES)]](data[1:])


if __name__ == "__main__":
    atheris.Setup([sys.argv[0], "-rss_limit_mb=512", "-timeout=10", "-max_len=4096", *sys.argv[1:]], feed)
    atheris.Fuzz()
