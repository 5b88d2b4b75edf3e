"""Add, list, show, verify, remove and make models.

A model is a GGUF file, a safetensors file, or a directory with config.json and safetensors. It is stored under the SHA-256
of its content, and it is in the store whole or not at all. NAME may also be the beginning of a digest.

examples:
  bedplate model add Qwen2.5-0.5B-Instruct-Q4_0.gguf         check it, copy it, name it after the file
  bedplate model add DIRECTORY --name qwen                   config.json, tokenizer and safetensors
  bedplate model list
  bedplate model show qwen
  bedplate model verify                                      read all of them again and compare digests
  bedplate model rm qwen
  bedplate model make random --like llama-3.2-1b --quant q4_0     random weights in a real shape, for speed tests
  bedplate model make known-answer --output DIRECTORY             train the self-test's model (some minutes)
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from bedplate.act.paths import find_paths
from bedplate.act.store import Store, Verdict
from bedplate.errors import UsageError
from bedplate.model.launch import ModelRef
from bedplate.model.units import render_size

HELP = "add, list, show, verify, remove and make models"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print for programs")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    add = verbs.add_parser("add", parents=[common], help="check a model and copy it into the store")
    add.add_argument("path", type=Path, metavar="PATH", help="a .gguf or .safetensors file, or a directory")
    add.add_argument("--name", help="what clients call it (the name of the file)")
    add.add_argument("--replace", action="store_true", help="take over a name that stands for another model")

    verbs.add_parser("list", parents=[common], help="all models of the store")

    show = verbs.add_parser("show", parents=[common], help="what the header of a model says")
    show.add_argument("name", metavar="NAME")
    show.add_argument("--tensors", action="store_true", help="each tensor too")

    remove = verbs.add_parser("rm", parents=[common], help="remove a model")
    remove.add_argument("name", metavar="NAME")

    verify = verbs.add_parser("verify", parents=[common], help="read models again and compare their digests")
    verify.add_argument("name", nargs="*", metavar="NAME", help="(all)")

    make = verbs.add_parser("make", help="make a model: random, known-answer")
    kinds = make.add_subparsers(dest="kind", required=True, metavar="KIND")
    random = kinds.add_parser("random", parents=[common], help="random weights in a real model's shape, for speed tests")
    random.add_argument(
        "--like", required=True, metavar="SHAPE", help="llama-3.2-1b, qwen3-0.6b, ... (--like list shows all)"
    )
    random.add_argument("--quant", default="q4_0", metavar="TYPE", help="q4_0, q8_0, f16 or bf16 (%(default)s)")
    random.add_argument("--name", help="what clients call it (random-SHAPE-TYPE)")
    random.add_argument("--seed", type=int, default=1, help="same seed, same file (%(default)s)")
    random.add_argument("--replace", action="store_true", help="take over a name that stands for another model")
    known = kinds.add_parser("known-answer", parents=[common], help="train the model of the self-test")
    known.add_argument("--output", type=Path, required=True, metavar="DIRECTORY", help="where its files go")
    known.add_argument("--seed", type=int, help="(that of the model that ships)")
    known.add_argument("--steps", type=int, help="(those of the model that ships)")
    known.add_argument("--threads", type=int, help="(1; another number gives another model)")


def main(arguments: argparse.Namespace) -> int:
    store = Store(find_paths().models)
    verb = f"make {arguments.kind}" if arguments.verb == "make" else arguments.verb
    return {
        "add": _add,
        "list": _list,
        "show": _show,
        "rm": _remove,
        "verify": _verify,
        "make random": _make_random,
        "make known-answer": _make_known_answer,
    }[verb](store, arguments)


def _add(store: Store, arguments: argparse.Namespace) -> int:
    from bedplate.cli.terminal import terminal_progress

    with terminal_progress() as progress:
        model = store.add(arguments.path, progress=progress, name=arguments.name, overwrite=arguments.replace)
    _print_models([model], arguments)
    return 0


def _list(store: Store, arguments: argparse.Namespace) -> int:
    models = store.models()
    if not models and not arguments.json:
        print(f"no models in {store.root}; add one: bedplate model add PATH", file=sys.stderr)
        return 0
    _print_models(models, arguments)
    return 0


def _show(store: Store, arguments: argparse.Namespace) -> int:
    model = store.find(arguments.name)
    header = store.read_header(model)
    if arguments.json:
        shown = asdict(model) | {
            "title": header.title,
            "vocabulary": header.vocabulary,
            "chat_template": header.chat_template,
            "tensor_count": len(header.tensors),
        }
        if arguments.tensors:
            shown["tensors"] = [asdict(tensor) for tensor in header.tensors]
        print(json.dumps(shown, indent=2))
        return 0
    rows = {
        "name": model.name,
        "title": header.title or "-",
        "sha256": model.sha256,
        "path": model.path,
        "format": model.format,
        "size": f"{render_size(model.size_bytes)} ({model.size_bytes} bytes)",
        "architecture": model.architecture,
        "parameters": f"{_render_count(model.parameters)} ({model.parameters}) in {len(header.tensors)} tensors",
        "quantisation": f"{model.quantisation}, {8 * model.size_bytes / max(model.parameters, 1):.2f} bits a parameter",
        "context": f"{model.context_length} tokens" if model.context_length else "the header does not say",
        "KV cache": f"{render_size(model.kv_bytes_per_token)} a token at 16 bits" if model.kv_bytes_per_token else "-",
        "vocabulary": f"{header.vocabulary} tokens" if header.vocabulary else "-",
        "chat template": "yes" if header.chat_template else "no",
    }
    for key, value in rows.items():
        print(f"{key:<14} {value}")
    for tensor in header.tensors if arguments.tensors else ():
        print(f"  {tensor.name:<48} {tensor.type:<8} {' x '.join(map(str, tensor.shape))}")
    return 0


def _remove(store: Store, arguments: argparse.Namespace) -> int:
    model = store.remove(arguments.name)
    if arguments.json:
        print(json.dumps(asdict(model), indent=2))
    else:
        print(f"removed {model.name} ({render_size(model.size_bytes)})")
    return 0


def _verify(store: Store, arguments: argparse.Namespace) -> int:
    from bedplate.cli.terminal import terminal_progress

    models = [store.find(name) for name in arguments.name] or list(store.models())
    with terminal_progress() as progress:
        verdicts = [store.verify(model, progress=progress) for model in models]
    if arguments.json:
        print(json.dumps([_verdict_row(verdict) for verdict in verdicts], indent=2))
    else:
        for verdict in verdicts:
            print(f"{verdict.model.name}: {verdict.problem or 'ok'}")
    return 1 if any(verdict.problem for verdict in verdicts) else 0


def _make_random(store: Store, arguments: argparse.Namespace) -> int:
    from bedplate.act.store import check_name, check_space
    from bedplate.catalog.shapes import find_shape, read_shapes
    from bedplate.cli.terminal import terminal_progress
    from bedplate.prove.random_model import Quant, random_model_bytes, write_random_model

    if arguments.like == "list":
        shapes = read_shapes()
        if arguments.json:
            print(json.dumps([asdict(shape) for shape in shapes], indent=2))
            return 0
        for shape in shapes:
            print(f"{shape.id:<14} {shape.architecture}, {shape.layers} layers of {shape.width}, {shape.vocabulary} tokens")
        return 0
    shape = find_shape(arguments.like)
    if arguments.quant not in list(Quant):
        raise UsageError(f"--quant: got {arguments.quant!r}, expected one of {', '.join(Quant)}")
    quant = Quant(arguments.quant)
    name = check_name(arguments.name or f"random-{shape.id}-{quant}")
    check_space(store.root, random_model_bytes(shape, quant))
    with terminal_progress() as progress, store.incoming() as part:
        write_random_model(part.path, shape, quant, seed=arguments.seed, progress=progress)
        with progress.phase("read it back and name it"):
            model = store.commit(part, name, overwrite=arguments.replace)
    _print_models([model], arguments)
    return 0


def _make_known_answer(store: Store, arguments: argparse.Namespace) -> int:
    import datetime

    from bedplate.cli.terminal import terminal_progress
    from bedplate.prove import known_answer

    seed = known_answer.SEED if arguments.seed is None else arguments.seed
    steps = known_answer.STEPS if arguments.steps is None else arguments.steps
    threads = known_answer.THREADS if arguments.threads is None else arguments.threads
    with terminal_progress() as progress:
        made = known_answer.make_known_answer(arguments.output, progress=progress, seed=seed, steps=steps, threads=threads)
    record = known_answer.render_record(
        made,
        command=f"bedplate model make known-answer --seed {seed} --steps {steps} --threads {threads} --output DIRECTORY",
        seed=seed,
        steps=steps,
        threads=threads,
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
    )
    (arguments.output / "known-answer.json").write_text(record)
    if arguments.json:
        print(record, end="")
        return 0
    measured = made.measured
    print(f"{made.gguf}: {render_size(made.gguf.stat().st_size)}, {_render_count(made.parameters)} parameters")
    for label, rate in (
        ("facts answered exactly", measured.facts_exact),
        ("all trained phrasings", measured.phrasings_exact),
        ("held-out phrasings", measured.held_out_phrasings_exact),
        ("held-out questions refused", measured.held_out_questions_refused),
    ):
        print(f"{label:<28} {rate.right} of {rate.asked}")
    return 0


def _print_models(models: list[ModelRef] | tuple[ModelRef, ...], arguments: argparse.Namespace) -> None:
    if arguments.json:
        rows = [asdict(model) for model in models]
        print(json.dumps(rows if arguments.verb == "list" else rows[0], indent=2))
        return
    head = ("NAME", "ARCHITECTURE", "PARAMETERS", "QUANTISATION", "CONTEXT", "SIZE", "SHA-256")
    table = [head] + [
        (
            model.name,
            model.architecture,
            _render_count(model.parameters),
            model.quantisation,
            str(model.context_length or "-"),
            render_size(model.size_bytes),
            model.sha256[:12],
        )
        for model in models
    ]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _render_count(count: int) -> str:
    """1235814400 -> "1.24 B" """
    for unit, name in ((10**9, "B"), (10**6, "M")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return str(count)


def _verdict_row(verdict: Verdict) -> dict[str, object]:
    model = verdict.model
    return {"name": model.name, "sha256": model.sha256, "ok": not verdict.problem, "problem": verdict.problem}
