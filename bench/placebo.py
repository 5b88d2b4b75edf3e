"""How often `bedplate prove` keeps or reverts a change that does nothing: `python -m bench.placebo`.

vm.stat_interval=10 (how often per-CPU counters of the kernel are folded; serving does not notice) beside one busy thread a
CPU, with short blocks and another seed each time. Refused runs are listed and counted apart: on a busy machine that is the
right answer, and no evidence. The goal is at most one false keep in ten.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from typing import Any

SETTING = "vm.stat_interval=10"


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.placebo", description=__doc__)
    parser.add_argument("--runs", type=int, default=10, help="that are judged (default: 10)")
    parser.add_argument("--tries", type=int, default=20, help="at most, refused ones among them (default: 20)")
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--block-s", type=float, default=2.0)
    arguments = parser.parse_args(argv)
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as state:
        for seed in range(1, arguments.tries + 1):
            record = _prove(seed, arguments.pairs, arguments.block_s, state)
            verdict, first = record["judgement"], record["proofs"][0]
            counts[verdict] += 1
            load = os.getloadavg()[0]
            print(f"seed {seed:>2}: {verdict:<9} load {load:4.1f}  {first['because']}", flush=True)
            if sum(counts.values()) - counts["refused"] >= arguments.runs:
                break
    judged = sum(counts.values()) - counts["refused"]
    print(f"{judged} judged: {', '.join(f'{count} {verdict}' for verdict, count in counts.most_common())}")
    return 0 if judged >= arguments.runs and counts["keep"] <= max(1, arguments.runs // 10) else 1


def _prove(seed: int, pairs: int, block_s: float, state: str) -> dict[str, Any]:
    shape = ["--pairs", str(pairs), "--block-s", str(block_s), "--period-ms", "5", "--work-ms", "1.5"]
    argv = [sys.executable, "-m", "bedplate.cli.main", "prove", "--setting", SETTING, "--seed", str(seed), "--json", *shape]
    done = subprocess.run(
        argv,
        env=os.environ | {"BEDPLATE_STATE_DIR": state},
        capture_output=True,
        text=True,
        timeout=900,
    )
    if done.returncode not in (0, 1) or not done.stdout:
        raise SystemExit(done.stderr)
    record: dict[str, Any] = json.loads(done.stdout)
    return record


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
