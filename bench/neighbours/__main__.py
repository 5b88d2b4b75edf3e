"""python -m bench.neighbours: what an engine keeps beside neighbours, in a Debian 13 guest and on this host.

python -m bench.neighbours                                    # both places, three rounds; about 65 minutes
python -m bench.neighbours --guest --rounds 1 --antagonists cpu,memory --arms bedplate
python -m bench.neighbours --guest --add --antagonists combined   # more rounds, of these rows, to those that are kept
python -m bench.neighbours --guest --again --antagonists load-io # these rows once more, instead of what is kept of them
python -m bench.neighbours --check                            # four rows, one round, beside what is kept; 15 minutes
python -m bench.neighbours --render                           # the page again from bench/results-neighbours.json

Needs root and a machine that does nothing else. Figures go into bench/README.md, every sample into
bench/results-neighbours.json; both are written after each round, so that a run that was cut keeps what it has.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import bedplate
from bedplate.act.files import write_whole
from bedplate.act.paths import Paths, find_paths
from bedplate.act.run import find_program, run
from bedplate.cli.terminal import terminal_progress
from bedplate.errors import BedplateError, PreflightError
from bedplate.interrupts import signals_interrupt
from bedplate.model.progress import Progress
from bench.neighbours.check import SHORT, render_check
from bench.neighbours.figure import join_runs, parse_run, render_run, replace_rows
from bench.neighbours.inside import arguments_of, measure_at
from bench.neighbours.table import render_tables
from bench.report import publish

HERE = Path(__file__).parent
KEPT = HERE.parent / "results-neighbours.json"
README = HERE.parent / "README.md"
PLACES = ("guest", "host")
_MINUTES = {"guest": 45.0, "host": 20.0}
_TRACE = HERE.parents[2] / "shared/data/traces/azure2023_code_first_half.csv"
_EXPLAINED = HERE / "explained.toml"
_SCHEMA = 1
_BEGIN, _END = "<!-- neighbours: written by python -m bench.neighbours -->", "<!-- end of neighbours -->"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.neighbours", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--guest", action="store_true", help="in the guest only")
    parser.add_argument("--host", action="store_true", help="on this host only")
    parser.add_argument("--trace", type=Path, default=_TRACE, help="the Azure code trace")
    parser.add_argument("--json", action="store_true", help="print all samples, publish nothing")
    parser.add_argument(
        "--add", action="store_true", help="add the rounds to those that are kept, instead of replacing them"
    )
    parser.add_argument(
        "--again", action="store_true", help="put the rows that are measured in the place of those that are kept"
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help=f"a short run in the guest ({SHORT}), shown beside what is kept, which stays as it is",
    )
    parser.add_argument("--render", action="store_true", help="measure nothing, write the page from what is kept")
    arguments_of(parser)
    arguments = parser.parse_args()
    if arguments.render:
        _publish(_read_kept("places"), _read_kept("checks"))
        return 0
    if arguments.check:
        arguments.guest, arguments.antagonists = True, arguments.antagonists or SHORT
        arguments.arms = arguments.arms or "bedplate"
    places = tuple(place for place in PLACES if getattr(arguments, place)) or PLACES
    if not arguments.trace.is_file():
        raise PreflightError(f"{arguments.trace}: is not there", hint="Name the Azure code trace by --trace.")
    paths = find_paths()
    failures: list[str] = []
    with terminal_progress(paths.logs / "bench-neighbours.log") as progress:
        for place in places:
            limits = argparse.Namespace(**vars(arguments) | {"minutes": arguments.minutes or _MINUTES[place]})
            try:
                _measure(place, paths, limits, progress)
            except BedplateError as error:  # the other place is measured all the same
                failures.append(f"{place}: {error.message}")
                progress.note(failures[-1])
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _measure(place: str, paths: Paths, arguments: argparse.Namespace, progress: Progress) -> None:
    """One place; what it measured until it ended, however it ended, is published or printed."""
    with tempfile.TemporaryDirectory(prefix="neighbours-run-") as temporary:
        keep = Path(temporary) / "run.json"
        try:
            if place == "guest":
                from bench.neighbours.guest import measure_in_guest

                measure_in_guest(paths, arguments, arguments.trace, keep, progress, _words(arguments))
            else:
                _measure_host(paths, arguments, keep, progress)
        finally:
            if keep.is_file():
                record = json.loads(keep.read_text())
                record["machine"] |= _provenance()
                if arguments.json:
                    print(json.dumps(record, indent=1))
                elif arguments.check:
                    _publish(_read_kept("places"), _read_kept("checks") | {place: record})
                else:
                    _publish(_with(_read_kept("places"), place, record, arguments), _read_kept("checks"))


def _measure_host(paths: Paths, arguments: argparse.Namespace, keep: Path, progress: Progress) -> None:
    from bench.neighbours.host_site import HostSite
    from bench.neighbours.models import host_model

    model = host_model(paths, progress)
    small = Path(bedplate.__file__).parent / "catalog/known_answer/known-answer.gguf"
    tree = paths.cache / "engine-tree/llamacpp"
    if not (tree / "usr/bin/llama-server").is_file():
        raise PreflightError(f"{tree}: the engine is not built", hint="Build it: bedplate image build.")
    with tempfile.TemporaryDirectory(prefix="neighbours-host-", dir=paths.cache / "bench") as temporary:
        directory = Path(temporary)
        shutil.copyfile(model, directory / "load.gguf")
        with progress.phase("measure on the host"):
            site = HostSite(directory, tree, model, small)
            measure_at(site, arguments, arguments.trace, keep, progress.note)


def _words(arguments: argparse.Namespace) -> list[str]:
    """The options as the program inside takes them, quoted for the guest's shell."""
    words = [f"--rounds {arguments.rounds}", f"--minutes {arguments.minutes:g}", f"--seed {arguments.seed}"]
    words += [f"--block-s {arguments.block_s:g}", f"--most-foreign {arguments.most_foreign:g}"]
    for name in ("arms", "antagonists"):
        if value := getattr(arguments, name):
            words.append(f"--{name} '{value}'")
    return words


def _provenance() -> dict[str, str]:
    git = find_program("git")
    commit = run([git, "-C", HERE, "describe", "--always", "--dirty"], timeout_s=30).output.strip() if git else "unknown"
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "commit": commit,
        "command": " ".join(["python -m bench.neighbours", *sys.argv[1:]]),
    }


def _read_kept(what: str) -> dict[str, Any]:
    """The runs of the table ("places") or those beside it ("checks"), by place."""
    if not KEPT.is_file():
        return {}
    record = json.loads(KEPT.read_text())
    return record.get(what, {}) if record.get("schema") == _SCHEMA else {}


def _with(places: dict[str, Any], place: str, record: dict[str, Any], arguments: argparse.Namespace) -> dict[str, Any]:
    if (arguments.add or arguments.again) and place in places:
        join = replace_rows if arguments.again else join_runs
        record = json.loads(render_run(join(parse_run(places[place]), parse_run(record))))
    return places | {place: record}


def _publish(places: dict[str, Any], checks: dict[str, Any]) -> None:
    import tomllib

    write_whole(KEPT, json.dumps({"schema": _SCHEMA, "places": places, "checks": checks}, indent=1) + "\n", sync=True)
    explained = tomllib.loads(_EXPLAINED.read_text()).get("why", {}) if _EXPLAINED.is_file() else {}
    runs = [parse_run(places[place]) for place in PLACES if place in places]
    text = render_tables(runs, explained)
    for place, check in checks.items():
        if place in places:
            text += "\n" + "\n".join(render_check(parse_run(places[place]), parse_run(check))) + "\n"
    publish(README, text, begin=_BEGIN, end=_END)


if __name__ == "__main__":
    try:
        with signals_interrupt(lambda text: print(text, file=sys.stderr)):
            sys.exit(main())
    except BedplateError as error:
        print(f"error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        sys.exit(1)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
