"""Say whether a model fits: on which accelerators and engines, in which precision, with which context and how many requests.

MODEL is a GGUF file, a directory of safetensors, a config.json, or a model of the catalog (docs/reference/models.md). Memory
is computed: weights, KV cache, recurrent states, work buffers. Speeds are ceilings, by the peaks of memory and arithmetic.
What no row or file says gives no number, and a row that rests on one source says so. Nothing is loaded or changed.

examples:
  bedplate fit llama-3.1-70b --on 8xH100                  a model of the catalog on eight H100
  bedplate fit model.gguf                                 a file, on this host
  bedplate fit gpt-oss-120b --on any --context 32768      the fewest of each accelerator of the catalog
  bedplate fit qwen3-32b --on l40s,h200 --concurrency 16 --price 2.40
  bedplate fit ./Llama-3.1-8B --engine vllm --on l4 --html fit.html
  bedplate fit deepseek-v3 --from host.tar.zst --json     on a recorded machine, as JSON

Exit status: 0 when it fits somewhere, 9 when it fits nowhere or nothing can be said, 2 for an unknown name.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bedplate.cli.argument_types import number, whole_number
from bedplate.cli.screen import this_screen
from bedplate.cli.talk import Talk
from bedplate.flows.fit import read_fit, write_fit_page
from bedplate.flows.pages import check_page
from bedplate.report.fit.document import render_fit_document
from bedplate.report.fit.text import render_fit

FITS_NOWHERE = 9
"""Exit status when nothing that was asked about holds the model."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `bedplate fit`: the model, where it would run, what it would be asked, and the form of the answer."""
    parser.add_argument(
        "model", metavar="MODEL", help="GGUF file, directory with config.json, config.json, or a name of the catalog"
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--on",
        metavar="COUNTxNAME",
        help="accelerators of the catalog, several with commas: 8xH100; `any`: eight of each (default: this host's)",
    )
    where.add_argument(
        "--from",
        dest="recording",
        metavar="PATH",
        type=Path,
        help="take the accelerators of a recorded machine, as `bedplate inspect --from` reads it",
    )
    parser.add_argument("--engine", metavar="NAME", help="reckon with this engine only: vllm, sglang, llamacpp")
    parser.add_argument(
        "--precision", metavar="NAME", help="take the weights in this precision only: bf16, fp8, q4_k_m, ..."
    )
    parser.add_argument(
        "--context",
        metavar="TOKENS",
        type=whole_number(1, 1 << 27),
        help="tokens of one request, prompt and answer together (default: what the model was made for, up to 8192)",
    )
    parser.add_argument(
        "--concurrency",
        metavar="N",
        type=whole_number(1, 1 << 20),
        default=1,
        help="number of requests at once (default: 1)",
    )
    parser.add_argument(
        "--price",
        metavar="PER_HOUR",
        type=number(0.0001, 1e6),
        help="price of all the accelerators of a target for an hour; the cost of a million tokens is in the same currency",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object (docs/reference/fit.schema.json)")
    parser.add_argument("--html", metavar="FILE", type=Path, help="also write one self-contained HTML page with the picture")


def main(arguments: argparse.Namespace) -> int:
    """Exit status 0 when it fits somewhere, else FITS_NOWHERE.

    Raises UsageError for unknown names and an unwritable page, ReadError and ModelRefused for a file.
    """
    check_page(arguments.html)
    report = read_fit(
        arguments.model,
        on=arguments.on,
        engine=arguments.engine,
        precision=arguments.precision,
        context=arguments.context,
        concurrency=arguments.concurrency,
        price_per_hour=arguments.price,
        recording=arguments.recording,
    )
    if arguments.html is not None:
        write_fit_page(arguments.html, report)
        Talk().note(f"wrote {arguments.html}")
    print(render_fit_document(report) if arguments.json else render_fit(report, this_screen()), end="")
    return 0 if report.holds else FITS_NOWHERE
