"""Add, list, show, verify, remove and make models.

A model is a GGUF file, whole or split into parts, a safetensors file, a directory of either, a snapshot in the cache of a
hub, or a model in a store of Ollama. If PATH has several, --file chooses one. The store keeps a model under the SHA-256 of
its content; an interrupted `add` leaves no part of it. NAME may also be the beginning of a digest.

examples:
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
import json
import sys
from dataclasses import asdict
from pathlib import Path

from bedplate.cli.subcommand import add_subcommand
from bedplate.errors import UsageError
from bedplate.model.launch import ModelRef
from bedplate.model.units import render_size
from bedplate.report.models import (
    integrity_object,
    model_object,
    removal_object,
    render_count,
    render_model,
    render_models,
    render_removal,
)

HELP = "add, list, show, verify, remove and make models"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verbs of `bedplate model`, each with its own options; `make` has two kinds below it."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print JSON")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    _add_options_of_add(verbs, common)
    add_subcommand(
        verbs, "list", parents=[common], help="list the models in the store", examples=("bedplate model list --json",)
    )

    show = add_subcommand(
        verbs,
        "show",
        parents=[common],
        help="show what the header of a model says",
        examples=("bedplate model show qwen", "bedplate model show qwen --tensors"),
    )
    show.add_argument("name", metavar="NAME", help="name of the model, or the beginning of its digest")
    show.add_argument("--tensors", action="store_true", help="list each tensor as well")

    remove = add_subcommand(
        verbs, "rm", parents=[common], help="remove a model from the store", examples=("bedplate model rm qwen",)
    )
    remove.add_argument("name", metavar="NAME", help="name of the model, or the beginning of its digest")

    verify = add_subcommand(
        verbs,
        "verify",
        parents=[common],
        help="read models again and compare their digests",
        examples=("bedplate model verify", "bedplate model verify qwen"),
    )
    verify.add_argument("name", nargs="*", metavar="NAME", help="model to verify (default: all)")
    _add_options_of_make(verbs, common)


def _add_options_of_add(verbs: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    add = add_subcommand(
        verbs,
        "add",
        parents=[common],
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


def _add_options_of_make(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
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
        parents=[common],
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
        parents=[common],
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
    verb = f"make {arguments.kind}" if arguments.verb == "make" else arguments.verb
    return {
        "add": _add,
        "list": _list,
        "show": _show,
        "rm": _remove,
        "verify": _verify,
        "make random": _make_random,
        "make known-answer": _make_known_answer,
    }[verb](arguments)


def _add(arguments: argparse.Namespace) -> int:
    from bedplate.cli.terminal import terminal_progress
    from bedplate.flows import model as models

    with terminal_progress() as progress:
        request = models.AddRequest(
            path=arguments.path,
            name=arguments.name,
            overwrite=arguments.replace,
            choice=arguments.file,
            projector=arguments.mmproj,
            adapters=tuple(arguments.lora),
        )
        model = models.add(request, progress)
    _print_models([model], arguments)
    if what := models.tell_what_serves():
        print(what, file=sys.stderr)
    return 0


def _list(arguments: argparse.Namespace) -> int:
    from bedplate.flows.model import open_store

    store = open_store()
    models = store.models()
    if not models and not arguments.json:
        print(f"no models in {store.root}; add one: bedplate model add PATH", file=sys.stderr)
        return 0
    _print_models(models, arguments)
    return 0


def _show(arguments: argparse.Namespace) -> int:
    from bedplate.flows import model as models

    shown = models.show(arguments.name)
    model, header = shown.model, shown.header
    if arguments.json:
        print(json.dumps(model_object(model, header, tensors=arguments.tensors), indent=2))
        return 0
    print(render_model(model, header, tensors=arguments.tensors), end="")
    return 0


def _remove(arguments: argparse.Namespace) -> int:
    from bedplate.flows.model import open_store, tell_what_serves

    removal = open_store().remove(arguments.name)
    if arguments.json:
        print(json.dumps(removal_object(removal), indent=2))
    else:
        print(render_removal(removal), end="")
    if what := tell_what_serves():
        print(what, file=sys.stderr)
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from bedplate.cli.terminal import terminal_progress
    from bedplate.flows import model as models

    with terminal_progress() as progress:
        verdicts = models.verify(arguments.name, progress)
    if arguments.json:
        print(json.dumps([integrity_object(verdict) for verdict in verdicts], indent=2))
    else:
        for verdict in verdicts:
            print(f"{verdict.model.name}: {verdict.problem or 'ok'}")
    return 1 if any(verdict.problem for verdict in verdicts) else 0


def _make_random(arguments: argparse.Namespace) -> int:
    from bedplate.cli.terminal import terminal_progress
    from bedplate.flows import model as models

    if arguments.like == "list":
        return _list_shapes(arguments)
    with terminal_progress() as progress:
        model = models.make_random(
            arguments.like,
            arguments.quant,
            progress,
            name=arguments.name,
            seed=arguments.seed,
            overwrite=arguments.replace,
        )
    _print_models([model], arguments)
    return 0


def _list_shapes(arguments: argparse.Namespace) -> int:
    from bedplate.flows import model as models

    shapes = models.list_shapes()
    if arguments.json:
        print(json.dumps([asdict(shape) for shape in shapes], indent=2))
        return 0
    for shape in shapes:
        print(f"{shape.id:<14} {shape.architecture}, {shape.layers} layers of {shape.width}, {shape.vocabulary} tokens")
    return 0


def _make_known_answer(arguments: argparse.Namespace) -> int:
    from bedplate.cli.terminal import terminal_progress
    from bedplate.flows import model as models

    if arguments.convert:
        return _convert_known_answer(arguments)
    with terminal_progress() as progress:
        outcome = models.make_known_answer(
            arguments.output, progress, seed=arguments.seed, steps=arguments.steps, threads=arguments.threads
        )
    if arguments.json:
        print(outcome.record, end="")
        return 0
    made = outcome.made
    measured = made.measured
    print(f"{made.gguf}: {render_size(made.gguf.stat().st_size)}, {render_count(made.parameters)} parameters")
    for label, rate in (
        ("facts answered exactly", measured.facts_exact),
        ("all trained phrasings", measured.phrasings_exact),
        ("held-out phrasings", measured.held_out_phrasings_exact),
        ("held-out questions refused", measured.held_out_questions_refused),
    ):
        print(f"{label:<28} {rate.right} of {rate.asked}")
    return 0


def _convert_known_answer(arguments: argparse.Namespace) -> int:
    from bedplate.flows import model as models

    given = [name for name in ("seed", "steps", "threads") if getattr(arguments, name) is not None]
    if given:
        raise UsageError(f"--convert: got --{given[0]} too, which is for a training", hint="Leave one of the two out.")
    files = models.convert_known_answer(arguments.output)
    if arguments.json:
        print(json.dumps([asdict(file) | {"path": str(file.path)} for file in files], indent=2))
        return 0
    for file in files:
        print(f"{file.sha256}  {file.path}")
    return 0


def _print_models(models: list[ModelRef] | tuple[ModelRef, ...], arguments: argparse.Namespace) -> None:
    if arguments.json:
        rows = [asdict(model) for model in models]
        print(json.dumps(rows if arguments.verb == "list" else rows[0], indent=2))
        return
    print(render_models(models), end="")
