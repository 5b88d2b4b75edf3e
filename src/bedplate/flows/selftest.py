"""Ask the known-answer model all of its facts, through whatever serves it, and demand exact answers."""

from __future__ import annotations

from bedplate.catalog.facts import read_facts
from bedplate.flows.endpoint import find_endpoint
from bedplate.model.launch import KNOWN_ANSWER
from bedplate.model.progress import Progress
from bedplate.prove.gauge.selftest import SelfTest, run_selftest


def selftest(
    progress: Progress,
    *,
    endpoint: str | None = None,
    model: str = KNOWN_ANSWER,
    all_phrasings: bool = False,
    parallel: int = 1,
) -> SelfTest:
    """The answers of an endpoint, by default this host's own; parallel: questions at a time.

    Raises UsageError for an endpoint that is no http URL, NotRunningError when nothing answers there.
    """
    return run_selftest(
        read_facts(),
        endpoint=endpoint or find_endpoint(),
        model=model,
        progress=progress,
        all_phrasings=all_phrasings,
        parallel=parallel,
    )
