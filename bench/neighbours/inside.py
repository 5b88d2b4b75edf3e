"""The program that measures, in one process tree with its load client and the neighbours, wherever a Site says.

Rounds go over all arms in a random order (seeded); in an arm each model gets a fresh engine, and its rows a random order.
Every sample begins with a fresh neighbour, which must be seen to run and to consume. What spoils a sample is kept with it.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from bedplate.catalog.antagonists import read_antagonists
from bedplate.engines.client import Endpoint
from bedplate.errors import BedplateError
from bedplate.host.root.root import Root
from bedplate.model.percentile import percentile
from bedplate.model.proof import Antagonist
from bedplate.prove.gauge.arrivals import Arrival, read_trace, scale
from bedplate.prove.gauge.client import RequestLog, replay
from bedplate.prove.gauge.conditions import read_conditions
from bedplate.prove.gauge.punctual import in_memory
from bedplate.prove.lab.antagonists import AntagonistError, Noise, Scratch, evict, prepared, resident_bytes, running
from bedplate.prove.lab.antagonists.fill import Scale
from bedplate.prove.lab.sample import Watch, foreign_problem, load_problem, take_sample, watched
from bedplate.prove.lab.victims import VictimMeasurement
from bedplate.prove.lab.victims.engine import EngineVictim, Load, Slo, summarise
from bench.neighbours.figure import Figure, Run, render_run
from bench.neighbours.loading import LOAD_LIMIT_S, started
from bench.neighbours.rows import Kind, Row, Victim, rows_of
from bench.neighbours.site import Site

MOST_FOREIGN = 0.05
DONE = "done"
"""The last line of a run inside a guest that came to its end."""
_LEAST_RESIDENT = 0.95  # of a mapped model before its quiet sample and before a neighbour comes
_LOAD_S = 15.0  # the writes that wait in the device when it begins take most of its first second; real ones take a minute
_ALONE_S = 3.0
_WINDOW_S = (850.0, 880.0)
_OF_CAPACITY = 0.7
_BURST, _FIT_S = 8, 90.0  # requests at once by which the capacity is told, and how long each may take
_SLO_ROOM = 1.5  # times the 95th percentile of a quiet replay
_SEED = 20231116
# Parts start one after the other, slowly where instructions are emulated; none may end before its sample does.
_SLACK_S = 240.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """The trace as it is replayed here."""

    arrivals: tuple[Arrival, ...]
    slo: Slo
    told: str


class Bench:
    def __init__(self, site: Site, *, block_s: float, most_foreign: float, talk: Callable[[str], None]) -> None:
        self._site, self._block_s, self._most_foreign, self._talk = site, block_s, most_foreign, talk
        self._catalog = {row.id: _sized(row, site) for row in read_antagonists()}
        self._endpoint = Endpoint(host="127.0.0.1", port=site.port, model="model")
        self._scale: Scale | None = None
        self._scratch: Scratch | None = None
        self._replay: Replay | None = None
        self.run = Run(place=site.name)

    def measure(
        self, rows: Sequence[Row], arms: Sequence[str], rounds: int, *, seed: int, deadline: float, trace: Path, keep: Path
    ) -> None:
        """All rounds that the time suffices for; the run is written to keep after each visit of an arm."""
        conditions = read_conditions(Root(), "llama.cpp")
        self.run.machine = {"kernel": conditions.kernel, "machine": conditions.machine, "seed": str(seed)}
        chance = random.Random(seed)
        estimate_s = self._estimate(rows, arms, rounds)
        self._talk(f"{rounds} rounds of {len(arms)} arms and {len(rows)} rows: about {estimate_s / 60:.0f} minutes")
        antagonists = [(self._catalog[part], row.level_pct) for row in rows for part in self._parts(row)]
        mapped = any(row.victim.is_mapped for row in rows)
        self._site.start_engine(self._site.arms[0], Victim.MAPPED if mapped else Victim.SMALL)
        self._scale = self._site.scale()
        with prepared(self._site.scratch, antagonists, self._scale, talk=self._talk) as self._scratch:
            self._measure_alone(rows)
            if any(row.kind is Kind.TRACE for row in rows):
                self._fit_trace(trace)
            longest_s = 0.0
            for number in range(1, rounds + 1):
                for arm in chance.sample(list(arms), len(arms)):
                    began = time.monotonic()
                    if began + longest_s > deadline:
                        self.run.notices.append(f"The run ended early, in round {number} of {rounds}, before {arm}.")
                        keep.write_text(render_run(self.run))
                        return
                    self._visit(arm, number, rows, chance)
                    keep.write_text(render_run(self.run))
                    longest_s = max(longest_s, time.monotonic() - began)

    def _estimate(self, rows: Sequence[Row], arms: Sequence[str], rounds: int) -> float:
        length = {Kind.SERVE: self._block_s, Kind.LOAD: _LOAD_S * 1.5, Kind.TRACE: self._site.trace_s * 1.2}
        arm_s, engine_s, noise_s = self._site.overheads_s

        def visit_s(arm: str) -> float:
            of = self._rows_in(arm, rows)
            each = sum(
                length[row.kind] * row.longer + row.lead_s + row.wash_s + (noise_s if row.antagonist else 0.0) for row in of
            )
            return arm_s + len({row.victim for row in of}) * engine_s + each

        alone_s = sum(row.lead_s + row.wash_s + _ALONE_S + noise_s for row in rows if row.antagonist)
        return alone_s + 3 * self._site.trace_s + rounds * sum(map(visit_s, arms))

    def _rows_in(self, arm: str, rows: Sequence[Row]) -> list[Row]:
        """Quiet rows but the first are measured in stock, of which the others are shares, and in the arm that protects."""
        both = (self._site.arms[0], self._site.arms[-1])
        return [row for row in rows if row.quiet or row.id == "quiet" or arm in both]

    # -- once -----------------------------------------------------------------------------------------------------------

    def _measure_alone(self, rows: Sequence[Row]) -> None:
        """What each neighbour does a second while the engine idles, in the stock arm."""
        stock = self._site.arms[0]
        for row in rows:
            if row.antagonist:
                try:
                    alone_s = row.lead_s + row.wash_s + _ALONE_S
                    with self._beside(stock, row, alone_s) as noise:
                        time.sleep(alone_s)
                        noise.check()
                        self.run.alone[row.id] = noise.work() / noise.elapsed_s()
                except AntagonistError as error:
                    self.run.notices.append(f"{row.id}, the neighbour alone: {error.message}")
                    self._talk(self.run.notices[-1])
                self._talk(f"alone, {row.id}: {self.run.alone.get(row.id, 0.0):.4g} a second")

    def _fit_trace(self, trace: Path) -> None:
        """Lengths by the site's factor; times so that the whole is 70 % of what the quiet engine can do in stock."""
        self._site.start_engine(self._site.arms[0], Victim.TRACE)
        window = read_trace(trace, window_s=_WINDOW_S)
        short = scale(window, tokens=self._site.trace_tokens, time=1.0, seed=_SEED)
        burst = [replace(arrival, at_s=0.0) for arrival in short[:_BURST]]
        self._replayed(burst, timeout_s=_FIT_S)  # the first requests touch what the others find
        began = time.monotonic()
        done = [log for log in self._replayed(burst, timeout_s=_FIT_S)[0] if not log.problem]
        per_s = len(done) / (time.monotonic() - began)
        if not done:
            self.run.notices.append("The trace could not be fitted: no request of the first burst was answered.")
            return
        wanted_per_s = per_s * _OF_CAPACITY
        count = min(len(short), max(10, int(wanted_per_s * self._site.trace_s)))
        factor = count / wanted_per_s / max(short[count - 1].at_s, 0.001)
        arrivals = scale(window[:count], tokens=self._site.trace_tokens, time=factor, seed=_SEED)
        logs, _ = self._replayed(arrivals, timeout_s=_FIT_S)
        firsts = [log.ttft_s for log in logs if log.ttft_s is not None and not log.problem]
        paces = [log.tpot_s for log in logs if log.tpot_s is not None and not log.problem]
        if not firsts:
            self.run.notices.append("The trace could not be fitted: no request of the quiet replay was answered.")
            return
        slo = Slo(
            ttft_s=_SLO_ROOM * percentile(firsts, 95), tpot_s=_SLO_ROOM * percentile(paces, 95) if paces else float("inf")
        )
        pace = f"TPOT {slo.tpot_s * 1000:.0f} ms" if paces else "no TPOT, since the answers are of one token"
        told = (
            f"Azure code trace from t = {_WINDOW_S[0]:.0f} s on: the first {count} of the {len(window)} requests up to"
            f" {_WINDOW_S[1]:.0f} s, tokens x{self._site.trace_tokens:g}, time x{factor:.2f}, so that they come at"
            f" {_OF_CAPACITY * 100:.0f} % of the {per_s:.1f} requests/s that the quiet engine answers; SLO: TTFT"
            f" {slo.ttft_s * 1000:.0f} ms, {pace} ({_SLO_ROOM:g} times the 95th percentiles of a quiet replay)"
        )
        self._replay = Replay(arrivals=arrivals, slo=slo, told=told)
        self.run.machine["trace"] = told
        self._talk(told)

    def _replayed(self, arrivals: Sequence[Arrival], *, timeout_s: float) -> tuple[list[RequestLog], float]:
        logs: list[RequestLog] = []
        late_s = asyncio.run(replay(self._endpoint, arrivals, logs, seed=_SEED, timeout_s=timeout_s))
        return logs, late_s

    # -- an arm ---------------------------------------------------------------------------------------------------------

    def _visit(self, arm: str, number: int, rows: Sequence[Row], chance: random.Random) -> None:
        """All rows of one arm in one round; an arm that cannot be made real leaves rejected figures with the reason."""
        began = time.monotonic()
        try:
            self._site.enter(arm)
            rows = self._rows_in(arm, rows)
            for victim in chance.sample(list(Victim), len(Victim)):
                of = [row for row in rows if row.victim is victim]
                if of:
                    self._site.start_engine(arm, victim)
                    self.run.arms[arm] = self._site.changed(arm)
                    self._measure_victim(arm, number, victim, chance.sample(of, len(of)))
        except BedplateError as error:
            self._talk(f"{arm}: {error.message}")
            there = {figure.row for figure in self.run.figures if (figure.arm, figure.round) == (arm, number)}
            self.run.figures += [
                _nothing(self._site.name, arm, row, number, error.message) for row in rows if row.id not in there
            ]
        finally:
            try:
                self._site.leave(arm)
            except BedplateError as error:
                self.run.notices.append(f"Round {number}: {arm} could not be taken back: {error.message}")
                self._talk(self.run.notices[-1])
        self._talk(f"round {number}, {arm}: {time.monotonic() - began:.0f} s")

    def _measure_victim(self, arm: str, number: int, victim: Victim, rows: Sequence[Row]) -> None:
        kinds = {
            Kind.SERVE: [row for row in rows if row.kind is Kind.SERVE],
            Kind.LOAD: [row for row in rows if row.kind is Kind.LOAD],
            Kind.TRACE: [row for row in rows if row.kind is Kind.TRACE],
        }
        if kinds[Kind.SERVE]:
            lengths = self._site.lengths(victim)
            load = Load(input_tokens=lengths.input_tokens, output_tokens=lengths.output_tokens, seed=_SEED)
            engine = EngineVictim(self._endpoint, f"port {self._site.port}", load=load)
            for row in kinds[Kind.SERVE]:
                self._keep(arm, row, number, lambda row: self._serve(arm, row, number, engine))
        for row in kinds[Kind.LOAD]:
            self._keep(arm, row, number, lambda row: self._load(arm, row, number))
        for row in kinds[Kind.TRACE]:
            self._keep(arm, row, number, lambda row: self._trace(arm, row, number))

    def _keep(self, arm: str, row: Row, number: int, measure: Callable[[Row], Figure]) -> None:
        """Measure, once more where foreign load or the hypervisor spoilt it, and keep both."""
        for _ in range(2):
            if not self._site.engine_pids():  # the row before cost it its life
                self._site.start_engine(arm, row.victim)
            began = time.time()
            try:
                figure = measure(row)
            except BedplateError as error:
                figure = _nothing(self._site.name, arm, row, number, error.message)
            figure = replace(figure, rejected=figure.rejected.partition("\n")[0])
            below = self._site.foreign(began, time.time())
            figure = replace(figure, began_unix_s=began, host_foreign_share=below)
            foreign = foreign_problem(max(below, figure.foreign_share), self._most_foreign)
            figure = replace(figure, rejected=figure.rejected or foreign)
            self.run.figures.append(figure)
            self._talk(
                f"  {arm}, {row.id}: {figure.rate:.4g}, neighbour {figure.neighbour_rate:.4g}"
                f"{f' [{figure.rejected}]' if figure.rejected else ''}"
            )
            if not figure.rejected.startswith("foreign"):
                return

    # -- samples --------------------------------------------------------------------------------------------------------

    def _serve(self, arm: str, row: Row, number: int, engine: EngineVictim) -> Figure:
        mapped = self._site.mapped_file if row.victim.is_mapped else None
        before = self._warm(mapped, engine) if mapped is not None else None
        block_s = self._block_s * row.longer
        pids = self._site.engine_pids()
        resident_after: list[float] = []

        def look() -> None:
            if mapped is not None:
                resident_after.append(_resident(mapped))

        with self._beside(arm, row, row.lead_s + row.wash_s + block_s) as noise:
            time.sleep(row.lead_s)
            taken = take_sample(
                engine,
                noise,
                pids,
                wash_s=row.wash_s,
                block_s=block_s,
                confined=self._confines(arm),
                at_the_end=look,
            )
            measured, watch = taken.measured, taken.watch
            grown = noise.work() if row.or_stock and not watch.problem else 0.0
        died = self._site.engine_pids() != pids  # its failed requests are what the neighbour did to it
        problem = watch.problem or ("" if died else load_problem(measured))
        problem = problem or without_requests(row, measured.requests, block_s)
        if not problem and before is not None and before < _LEAST_RESIDENT:
            problem = f"only {before * 100:.0f} % of the mapped model was in the page cache before"
        return self._figure(
            arm,
            row,
            number,
            watch,
            pids,
            rate=measured.work / measured.duration_s,
            itl_p50_s=percentile(measured.gaps_s, 50) if measured.gaps_s else None,
            resident_before=before,
            resident_after=resident_after[0] if resident_after else None,
            rejected=problem,
            victim_delay=watch.usage.victim_delay,
            neighbour_grown_bytes=grown,
            **_of_requests(measured),
        )

    def _load(self, arm: str, row: Row, number: int) -> Figure:
        file = self._site.load_file
        evict(file)
        loader = ("python3", str(Path(__file__).parent / "loader.py"), str(file), f"{_LOAD_S:g}")
        pids = self._site.engine_pids()
        with self._beside(arm, row, row.wash_s + LOAD_LIMIT_S) as noise, started(self._site.loader(arm, loader)) as load:
            with self._watched(noise, row, arm, pids) as watch:
                before = _resident(file)
                read, seconds = load()
            watch.ask()
        problem = watch.problem
        if not problem and before > 1 - _LEAST_RESIDENT:
            problem = f"{before * 100:.0f} % of the file was in the page cache before"
        return self._figure(
            arm,
            row,
            number,
            watch,
            pids,
            rate=read / seconds,
            duration_s=seconds,
            resident_before=before,
            resident_after=_resident(file),
            rejected=problem,
        )

    def _trace(self, arm: str, row: Row, number: int) -> Figure:
        plan = self._replay
        if plan is None:
            return _nothing(self._site.name, arm, row, number, "the trace could not be fitted")
        pids = self._site.engine_pids()
        with self._beside(arm, row, row.wash_s + self._site.trace_s * 4) as noise:
            with self._watched(noise, row, arm, pids) as watch:
                began = time.monotonic()
                logs, late_s = self._replayed(plan.arrivals, timeout_s=self._site.trace_s * 2)
                measured = summarise(logs, began, time.monotonic(), slo=plan.slo, late_s=late_s)
            watch.ask()
        problem = watch.problem
        if not problem and measured.late_s > plan.slo.ttft_s / 4:
            problem = f"the load client was late: {measured.late_s * 1000:.0f} ms at the 99th percentile"
        return self._figure(
            arm,
            row,
            number,
            watch,
            pids,
            rate=measured.good / len(plan.arrivals),
            rejected=problem,
            victim_delay=watch.usage.victim_delay,
            **_of_requests(measured),
        )

    def _figure(self, arm: str, row: Row, number: int, watch: Watch, pids: Sequence[int], **more: Any) -> Figure:
        """With what is told of every kind of sample."""
        return Figure(
            place=self._site.name,
            arm=arm,
            row=row.id,
            round=number,
            neighbour_rate=watch.rate,
            neighbour_cpu_s=watch.cpu_s,
            idle_cpu_s=watch.usage.idle_s,
            foreign_share=watch.usage.foreign_share,
            engine_died=self._site.engine_pids() != tuple(pids),
            neighbour_killed=watch.killed,
            **more,
        )

    @contextmanager
    def _beside(self, arm: str, row: Row, seconds: float) -> Iterator[Noise]:
        """The row's neighbour from its start to its end; of a quiet row, one of level 0, which is none."""
        catalog = tuple(self._catalog.values())
        antagonist = self._catalog[row.antagonist] if row.antagonist else catalog[0]
        level = row.level_pct if row.antagonist else 0
        place = self._site.neighbour(arm, row)
        with running(
            antagonist, level, place, seconds + _SLACK_S, scratch=self._scratch, scale=self._scale, rows=catalog
        ) as neighbour:
            yield neighbour

    def _watched(self, noise: Noise, row: Row, arm: str, pids: Sequence[int]) -> AbstractContextManager[Watch]:
        return watched(noise, pids, wash_s=row.wash_s, confined=self._confines(arm))

    def _confines(self, arm: str) -> bool:
        """Whether the arm may well give a neighbour less than it asks for."""
        return not (arm == self._site.arms[0] or arm.startswith("tuned "))

    def _warm(self, file: Path, engine: EngineVictim) -> float:
        """Let the engine work until its mapped model is in the page cache again; the share that is."""
        deadline = time.monotonic() + 30.0
        # Not by a read of ours: pages are charged to who touches them first, and it is the engine's that are protected.
        with engine.loaded():
            while (share := _resident(file)) < _LEAST_RESIDENT and time.monotonic() < deadline:
                engine.measure(1.0)
        return share

    def _parts(self, row: Row) -> tuple[str, ...]:
        if not row.antagonist:
            return ()
        return self._catalog[row.antagonist].parts or (row.antagonist,)


def _sized(antagonist: Antagonist, site: Site) -> Antagonist:
    """The same row with a file for this site's disk."""
    return replace(antagonist, file_bytes=site.io_file_bytes) if antagonist.file_bytes > site.io_file_bytes else antagonist


def without_requests(row: Row, requests: int, block_s: float) -> str:
    """Why a sample of a quiet engine says nothing, or "".

    Beside a neighbour no answer is a result. Without one the engine is too slow for samples of this length, and all that is
    measured would be a share of 0.
    """
    if row.antagonist or requests:
        return ""
    return f"no request ended within {block_s:g} s though there is no neighbour: the engine is too slow here, see --block-s"


def _of_requests(measured: VictimMeasurement) -> dict[str, Any]:
    return {
        "duration_s": measured.duration_s,
        "itl_p99_s": percentile(measured.gaps_s, 99) if measured.gaps_s else None,
        "ttft_p50_s": median(measured.ttft_s) if measured.ttft_s else None,
        "requests": measured.requests,
        "failed": measured.failed,
        "late_s": measured.late_s,
    }


def _resident(file: Path) -> float:
    return resident_bytes(file) / file.stat().st_size


def _nothing(place: str, arm: str, row: Row, number: int, why: str) -> Figure:
    return Figure(place=place, arm=arm, row=row.id, round=number, rate=0.0, duration_s=0.0, rejected=why.splitlines()[0])


def arguments_of(parser: argparse.ArgumentParser) -> None:
    """What the outer command hands on."""
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="interleaved rounds (3)")
    parser.add_argument("--minutes", type=float, metavar="M", help="begin no arm that would end later than this")
    parser.add_argument("--arms", default="", metavar="A,B", help="some arms only; stock is always there")
    parser.add_argument("--antagonists", default="", metavar="A,B", help="some rows of the table only, by id")
    parser.add_argument("--seed", type=int, default=1, help="of the order (1)")
    parser.add_argument("--block-s", type=float, default=4.0, metavar="S", help="length of a sample (4)")
    parser.add_argument(
        "--most-foreign", type=float, default=MOST_FOREIGN, metavar="SHARE", help="reject samples with more (0.05)"
    )


def measure_at(site: Site, arguments: argparse.Namespace, trace: Path, keep: Path, talk: Callable[[str], None]) -> None:
    """Run a whole bench at a site and take back what it changed. Raises ValueError for names that are none."""
    rows = tuple(row for row in rows_of(arguments.antagonists) if site.name == "guest" or not row.guest_only)
    wanted = arguments.arms.split(",") if arguments.arms else list(site.arms)
    arms = [arm for arm in site.arms if arm in wanted or arm == site.arms[0]]
    bench = Bench(site, block_s=arguments.block_s, most_foreign=arguments.most_foreign, talk=talk)
    minutes = arguments.minutes or 45.0
    try:
        bench.measure(
            rows,
            arms,
            arguments.rounds,
            seed=arguments.seed,
            deadline=time.monotonic() + 60 * minutes,
            trace=trace,
            keep=keep,
        )
    except BedplateError as error:
        bench.run.notices.append(f"Ended by a failure: {error.message}")
        raise
    finally:
        keep.write_text(render_run(bench.run))
        site.close()


def _say(text: str) -> None:
    print(text, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    arguments_of(parser)
    parser.add_argument("--trace", type=Path, required=True)
    parser.add_argument("--keep", type=Path, required=True)
    arguments = parser.parse_args()
    from bench.neighbours.guest_site import GuestSite

    try:
        with in_memory(_say):
            measure_at(GuestSite(), arguments, arguments.trace, arguments.keep, _say)
    except BedplateError as error:
        print(f"error: {error.message}", flush=True)
        return 1
    print(DONE, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
