"""Pull, add, list, show, verify, remove and make models.

A model is a GGUF file, whole or split into parts, a safetensors file, a directory of either, a snapshot in the cache of a
hub, or a model in a store of Ollama. If PATH has several, --file chooses one. The store keeps a model under the SHA-256 of
its content; an interrupted `add` leaves no part of it. NAME may also be the beginning of a digest.

examples:
  bedplate model pull hf:ORG/NAME --file Q4_K_M              fetch one of several quantisations from a hub
  bedplate model add Qwen2.5-0.5B-Instruct-Q4_0.gguf         check the file, copy it, and name the model after it
  bedplate model add DIRECTORY --file Q4_K_M                 add one of several quantisations, and its parts
  bedplate model add MODEL.gguf --mmproj mmproj-MODEL.gguf   add a model that sees images
  bedplate model list
  bedplate model show qwen
  bedplate model verify                                      read all models again and compare their digests
  bedplate model rm qwen
  bedplate model make random --like llama-3.2-1b --quant q4_0     make random weights of a real shape, for speed tests
  bedplate model make known-answer --output DIRECTORY             train the model of the self-test (some minutes)
  bedplate model make known-answer --convert --output DIRECTORY   write it for vLLM and Transformers (a second)
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bedplate.cli.model_pull import add_options_of_pull, make_pull_request
from bedplate.cli.result import print_result
from bedplate.cli.subcommand import Subcommands, add_subcommand, run_subcommand
from bedplate.cli.talk import Talk
from bedplate.cli.terminal import terminal_progress
from bedplate.errors import UsageError
from bedplate.flows import model as models
from bedplate.model.launch import ModelRef
from bedplate.model.units import render_size
from bedplate.model.wording import plural
from bedplate.report.models import (
    integrity_object,
    model_object,
    removal_object,
    render_integrity,
    render_made,
    render_model,
    render_models,
    render_removal,
    render_shapes,
    stored_object,
)

_JSON = "print JSON"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verbs of `bedplate model`, each with its own options; `make` has two kinds below it."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    add_options_of_pull(verbs, _pull, json=_JSON)
    _add_options_of_add(verbs)
    add_subcommand(
        verbs,
        "list",
        run=_list,
        json=_JSON,
        help="list the models in the store",
        examples=("bedplate model list --json",),
    )

    show = add_subcommand(
        verbs,
        "show",
        run=_show,
        json=_JSON,
        help="show what the header of a model says",
        examples=("bedplate model show qwen", "bedplate model show qwen --tensors"),
    )
    show.add_argument("name", metavar="NAME", help="name of the model, or the beginning of its digest")
    show.add_argument("--tensors", action="store_true", help="list each tensor as well")

    remove = add_subcommand(
        verbs,
        "rm",
        run=_remove,
        json=_JSON,
        help="remove a model from the store",
        examples=("bedplate model rm qwen",),
    )
    remove.add_argument("name", metavar="NAME", help="name of the model, or the beginning of its digest")

    verify = add_subcommand(
        verbs,
        "verify",
        run=_verify,
        json=_JSON,
        help="read models again and compare their digests",
        examples=("bedplate model verify", "bedplate model verify qwen"),
    )
    verify.add_argument("name", nargs="*", metavar="NAME", help="model to verify (default: all)")
    _add_options_of_make(verbs)


def _add_options_of_add(verbs: Subcommands) -> None:
    add = add_subcommand(
        verbs,
        "add",
        run=_add,
        json=_JSON,
        help="check a model and copy it into the store",
        examples=(
            "bedplate model add Some-Model-Q4_0.gguf --name org/some-model",
            "bedplate model add models--ORG--NAME/snapshots/REVISION --file Q4_K_M",
            "bedplate model add ~/.ollama/models --file qwen3:0.6b",
        ),
    )
    add.add_argument(
        "path",
        type=Path,
        metavar="PATH",
        help="a .gguf file (any part of a split model), a .safetensors file, a directory, or a store of Ollama",
    )
    add.add_argument(
        "--file",
        default="",
        metavar="NAME",
        help=("which model to add, if PATH has several: its file, or part of the name (Q4_K_M)"),
    )
    add.add_argument(
        "--mmproj",
        default="",
        metavar="FILE",
        help="projector with which the model sees images (default: the one in the directory; `none` omits it)",
    )
    add.add_argument(
        "--lora",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help=("LoRA adapter to apply to every request; repeatable"),
    )
    add.add_argument("--name", help="name that clients use for the model (default: the name of the file)")
    add.add_argument("--replace", action="store_true", help="give this model the name even if another model has it")


def _add_options_of_make(verbs: Subcommands) -> None:
    """A kind of model is a verb below it."""
    make = add_subcommand(
        verbs,
        "make",
        help="make a model with random weights, or the known-answer model",
        examples=("bedplate model make random --like llama-3.2-1b",),
    )
    kinds = make.add_subparsers(dest="kind", required=True, metavar="KIND")
    random = add_subcommand(
        kinds,
        "random",
        run=_make_random,
        json=_JSON,
        help="make random weights in the shape of a real model, for speed tests",
        examples=("bedplate model make random --like list", "bedplate model make random --like llama-3.2-1b --quant q8_0"),
    )
    random.add_argument(
        "--like", required=True, metavar="SHAPE", help="shape to copy, such as llama-3.2-1b; `--like list` lists all shapes"
    )
    random.add_argument("--quant", default="q4_0", metavar="TYPE", help="q4_0, q8_0, f16 or bf16 (default: %(default)s)")
    random.add_argument("--name", help="name that clients use for the model (default: random-SHAPE-TYPE)")
    random.add_argument("--seed", type=int, default=1, help="the same seed makes the same file (default: %(default)s)")
    random.add_argument("--replace", action="store_true", help="give this model the name even if another model has it")
    known = add_subcommand(
        kinds,
        "known-answer",
        run=_make_known_answer,
        json=_JSON,
        help="train the model of the self-test, or convert the one that ships",
        examples=(
            "bedplate model make known-answer --output DIRECTORY",
            "bedplate model make known-answer --convert --output DIRECTORY",
        ),
    )
    known.add_argument(
        "--output", type=Path, required=True, metavar="DIRECTORY", help="directory for the files of the model"
    )
    known.add_argument(
        "--convert",
        action="store_true",
        help="train nothing: write the model that ships as safetensors, which vLLM and Transformers read",
    )
    known.add_argument("--seed", type=int, help="seed of the training (default: that of the model that ships)")
    known.add_argument("--steps", type=int, help="number of training steps (default: that of the model that ships)")
    known.add_argument("--threads", type=int, help="number of threads; it changes the resulting weights (default: 1)")


def main(arguments: argparse.Namespace) -> int:
    """Exit status 0 when the verb did its work; `verify` gives 1 when a digest differs or a file is missing.

    Raises UsageError for a name or digest without a model, ModelRefused for a file that must not be served, PreflightError
    for a full disk.
    """
    return run_subcommand(arguments)


def _pull(arguments: argparse.Namespace) -> int:
    from bedplate.flows.pull import discard, pull

    if arguments.discard_unfinished:
        gone = discard()
        text = f"removed {plural(gone.files, 'unfinished file')} ({render_size(gone.size_bytes)})\n"
        return print_result(arguments, asdict(gone), text)
    request = make_pull_request(arguments)
    with terminal_progress() as progress:
        model = pull(request, progress)
    _print_model(model, arguments)
    return _say_what_serves()


def _add(arguments: argparse.Namespace) -> int:
    request = models.AddRequest(
        path=arguments.path,
        name=arguments.name,
        overwrite=arguments.replace,
        choice=arguments.file,
        projector=arguments.mmproj,
        adapters=tuple(arguments.lora),
    )
    with terminal_progress() as progress:
        model = models.add(request, progress)
    _print_model(model, arguments)
    return _say_what_serves()


def _list(arguments: argparse.Namespace) -> int:
    store = models.open_store()
    found: Sequence[ModelRef] = store.models()
    if not found and not arguments.json:
        Talk().note(f"no models in {store.root}; add one: bedplate model add PATH, or model pull SOURCE")
        return 0
    return print_result(arguments, [stored_object(model, store.origin(model)) for model in found], render_models(found))


def _show(arguments: argparse.Namespace) -> int:
    shown = models.show(arguments.name)
    details = {"tensors": arguments.tensors, "origin": shown.origin}
    record = model_object(shown.model, shown.header, **details)
    return print_result(arguments, record, render_model(shown.model, shown.header, **details))


def _remove(arguments: argparse.Namespace) -> int:
    removal = models.open_store().remove(arguments.name)
    print_result(arguments, removal_object(removal), render_removal(removal))
    return _say_what_serves()


def _verify(arguments: argparse.Namespace) -> int:
    with terminal_progress() as progress:
        results = models.verify(arguments.name, progress)
    print_result(arguments, [integrity_object(result) for result in results], "".join(map(render_integrity, results)))
    return 1 if any(result.problem for result in results) else 0


def _make_random(arguments: argparse.Namespace) -> int:
    if arguments.like == "list":
        shapes = models.list_shapes()
        return print_result(arguments, [asdict(shape) for shape in shapes], render_shapes(map(asdict, shapes)))
    with terminal_progress() as progress:
        model = models.make_random(
            arguments.like,
            arguments.quant,
            progress,
            name=arguments.name,
            seed=arguments.seed,
            overwrite=arguments.replace,
        )
    return _print_model(model, arguments)


def _make_known_answer(arguments: argparse.Namespace) -> int:
    if arguments.convert:
        return _convert_known_answer(arguments)
    with terminal_progress() as progress:
        outcome = models.make_known_answer(
            arguments.output, progress, seed=arguments.seed, steps=arguments.steps, threads=arguments.threads
        )
    made = outcome.made
    text = render_made(str(made.gguf), made.gguf.stat().st_size, made.parameters, asdict(made.measured))
    print(outcome.record if arguments.json else text, end="")
    return 0


def _convert_known_answer(arguments: argparse.Namespace) -> int:
    given = [name for name in ("seed", "steps", "threads") if getattr(arguments, name) is not None]
    if given:
        raise UsageError(f"--convert: got --{given[0]} too, which is for a training", hint="Leave one of the two out.")
    files = models.convert_known_answer(arguments.output)
    record = [asdict(file) | {"path": str(file.path)} for file in files]
    return print_result(arguments, record, "".join(f"{file.sha256}  {file.path}\n" for file in files))


def _print_model(model: ModelRef, arguments: argparse.Namespace) -> int:
    record = stored_object(model, models.open_store().origin(model))
    return print_result(arguments, record, render_models([model]))


def _say_what_serves() -> int:
    if what := models.tell_what_serves():
        Talk().note(what)
    return 0
