"""What `fio --output-format=json` reports of its jobs, the same for a measured disk and for an antagonist. Pure.

Recorded from fio 3.33 of Debian 12; the same keys are there in 3.39.
"""

from __future__ import annotations

from typing import Any

from bedplate.errors import ReadError
from bedplate.prove.lab.json_output import parse_json_output


def parse_fio_jobs(text: str) -> list[dict[str, Any]]:
    """The jobs of a report, one at least. Raises ReadError without jobs, or where one ended with an error: what it did until
    then is no measurement."""
    jobs = parse_json_output(text, "fio").get("jobs")
    if not isinstance(jobs, list) or not jobs or not all(isinstance(job, dict) for job in jobs):
        raise ReadError("fio: its JSON has no jobs")
    for job in jobs:
        if job.get("error"):
            raise ReadError(f"fio: job {job.get('jobname')!r} ended with error {job['error']}")
    return jobs
