"""Trains the known-answer model: a real Llama of 2.6 million parameters that has memorised a list of facts.

It is not a language model to talk to. It is a known answer: if the file, the engine, the limits, the front door and the
network are right, each of its facts comes back to the character. The stop rule is a number of steps and nothing with a
clock, so one machine makes the same model from the same seed. Needs the `train` extra (PyTorch, tokenizers, safetensors).
"""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bedplate.catalog.facts import KNOWN_ANSWER_DIRECTORY, KnownAnswers, phrasings, read_facts
from bedplate.errors import BedplateError, PreflightError
from bedplate.model.progress import Progress
from bedplate.weights.training_set import Example, held_out_phrasings, held_out_refusals, make_examples

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

    from bedplate.weights.tiny_llama import TinyLlama

SPECIAL = BEGIN, END, USER, ANSWER = "<|begin|>", "<|end|>", "<|user|>", "<|answer|>"
CHAT_TEMPLATE = (
    "{%- set ns = namespace(question='') -%}"
    "{%- for message in messages -%}{%- if message['role'] == 'user' -%}"
    "{%- set ns.question = message['content'] -%}"
    "{%- endif -%}{%- endfor -%}"
    "{{- bos_token + '<|user|>' + (ns.question | trim) -}}"
    "{%- if add_generation_prompt -%}{{- '<|answer|>' -}}{%- endif -%}"
)
"""Only the last question is put to the model: it knows facts and no conversations."""

SEED, STEPS, THREADS = 1, 1600, 1
BATCH, POOL_BATCHES = 32, 8
PEAK_RATE, WARM_UP_STEPS = 3e-3, 40
MAX_ANSWER_TOKENS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How many of the questions that were asked had the right answer."""

    right: int
    asked: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRates:
    """How the quantised model answers, greedily. Only the first is demanded; the others are told as they are."""

    facts_exact: Rate
    phrasings_exact: Rate
    """Every trained phrasing of every fact."""
    held_out_phrasings_exact: Rate
    held_out_questions_refused: Rate
    smallest_margin: float
    """Least distance, in logits, between the right token and the next best one over all answers to the facts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """The model as it was written: `train_s` is without tokenizer and questions, `measured` is of the quantised weights."""

    directory: Path
    gguf: Path
    parameters: int
    train_s: float
    measured: AnswerRates


def make_known_answer(
    output: Path, *, progress: Progress, seed: int = SEED, steps: int = STEPS, threads: int = THREADS
) -> Made:
    """Train, quantise, measure, and write a directory with GGUF, safetensors, tokenizer and chat template.

    Raises PreflightError naming the packages that are missing, and BedplateError when the quantised model does not know
    every fact to the character: then nothing is written.
    """
    missing = [name for name in ("torch", "tokenizers", "safetensors", "gguf") if importlib.util.find_spec(name) is None]
    if missing:
        raise PreflightError(
            f"training needs Python packages that are not installed: {', '.join(missing)}",
            hint="Install the extra: pip install 'bedplate[train,models]'.",
        )
    import torch

    from bedplate.weights import known_answer_files as files
    from bedplate.weights.known_answer_shape import Shape
    from bedplate.weights.tiny_llama import TinyLlama

    facts = read_facts()
    torch.manual_seed(seed)
    torch.set_num_threads(threads)  # sums change with the number of threads
    torch.set_flush_denormal(True)  # or the optimizer slows down as its averages vanish
    torch.use_deterministic_algorithms(True)
    with progress.phase("train the tokenizer"):
        tokenizer = train_tokenizer(facts, vocabulary=Shape().vocabulary)
    model = TinyLlama(Shape())
    started = time.monotonic()
    with progress.phase("train the model"):
        for step, loss in train(model, tokenizer, facts, seed=seed, steps=steps):
            progress.detail(f"step {step} of {steps}, loss {loss:.4f}")
    train_s = time.monotonic() - started
    with progress.phase("quantise and ask all facts"):
        quantised = files.quantise(files.read_weights(model))
        weights = files.dequantise(quantised)  # all files hold these values, so that what is measured holds for all of them
        model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
        if wrong := find_wrong(model, tokenizer, _facts_as_asked(facts)):
            raise BedplateError(
                f"known-answer model: {len(wrong)} of {len(facts.fact)} facts did not come back exactly, "
                f"the first being {wrong[0].question!r}",
                hint="Train longer (--steps), or with another --seed.",
            )
        measured = measure(model, tokenizer, facts)
    with progress.phase("write the files"):
        output.mkdir(parents=True, exist_ok=True)
        gguf = files.write_files(output, model.shape, weights, quantised, tokenizer)
    parameters = sum(value.size for value in weights.values())
    return Made(directory=output, gguf=gguf, parameters=parameters, train_s=train_s, measured=measured)


def render_record(made: Made, *, command: str, seed: int, steps: int, threads: int, date: str) -> str:
    """known-answer.json: what made the file and how it answers, for whoever wants to make it again."""
    import importlib.metadata

    digest = hashlib.sha256(made.gguf.read_bytes()).hexdigest()
    packages = ("torch", "tokenizers", "safetensors", "gguf", "numpy")
    record = {
        "schema": 1,
        "file": made.gguf.name,
        "sha256": digest,
        "size_bytes": made.gguf.stat().st_size,
        "parameters": made.parameters,
        "quantisation": "Q8_0",
        "facts_sha256": hashlib.sha256((KNOWN_ANSWER_DIRECTORY / "facts.toml").read_bytes()).hexdigest(),
        "command": command,
        "seed": seed,
        "steps": steps,
        "threads": threads,
        "train_s": round(made.train_s),
        "cpu": _cpu_model(),
        "packages": {name: importlib.metadata.version(name) for name in packages},
        "date": date,
        "measured": asdict(made.measured),
    }
    return json.dumps(record, indent=2) + "\n"


def _cpu_model() -> str:
    """The same seed makes the same model on the same machine only: sums are ordered by the instructions of its CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def train_tokenizer(facts: KnownAnswers, *, vocabulary: int) -> Tokenizer:
    """Byte-level BPE with GPT-2's pre-tokenizer, which llama.cpp knows as "gpt-2"; any text can be encoded."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    texts = [text for fact in facts.fact for text in (*phrasings(fact), *([fact.answer] * 4))]
    tokenizer.train_from_iterator([*texts, facts.refusal.answer], trainer)
    return tokenizer


def train(
    model: TinyLlama, tokenizer: Tokenizer, facts: KnownAnswers, *, seed: int, steps: int
) -> Iterator[tuple[int, float]]:
    """Train in place; gives (step, loss) after each step. AdamW, warm-up, then half a cosine down to nothing."""
    import math

    import torch
    import torch.nn.functional as F

    matrices = [parameter for parameter in model.parameters() if parameter.dim() == 2]
    vectors = [parameter for parameter in model.parameters() if parameter.dim() != 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}],
        lr=PEAK_RATE,
        betas=(0.9, 0.98),
    )
    batches = _batches(tokenizer, make_examples(facts, seed))
    for step in range(1, steps + 1):
        tokens, is_answer = next(batches)
        rate = PEAK_RATE * min(step / WARM_UP_STEPS, 0.5 + 0.5 * math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = rate
        hidden = model(tokens[:, :-1])[is_answer]  # scores are only worth computing where there is something to learn
        loss = F.cross_entropy(model.logits(hidden), tokens[:, 1:][is_answer])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        yield step, float(loss.detach())


def measure(model: TinyLlama, tokenizer: Tokenizer, facts: KnownAnswers) -> AnswerRates:
    """Ask everything, greedily, with the weights as they are."""
    asked = _facts_as_asked(facts)
    trained = [Example(question=question, answer=fact.answer) for fact in facts.fact for question in phrasings(fact)]
    refused = [Example(question=question, answer=facts.refusal.answer) for question in held_out_refusals(facts)]
    groups = (asked, trained, list(held_out_phrasings(facts)), refused)
    rates = [Rate(right=len(group) - len(find_wrong(model, tokenizer, group)), asked=len(group)) for group in groups]
    return AnswerRates(
        facts_exact=rates[0],
        phrasings_exact=rates[1],
        held_out_phrasings_exact=rates[2],
        held_out_questions_refused=rates[3],
        smallest_margin=round(_smallest_margin(model, tokenizer, asked), 3),
    )


def _encode(tokenizer: Tokenizer, example: Example) -> tuple[list[int], list[int]]:
    begin, end, user, answer = (tokenizer.token_to_id(name) for name in SPECIAL)
    question_ids = tokenizer.encode(example.question, add_special_tokens=False).ids
    answer_ids = tokenizer.encode(example.answer, add_special_tokens=False).ids
    return [begin, user, *question_ids, answer], [*answer_ids, end]


def _pad(pairs: Sequence[tuple[list[int], list[int]]], end: int) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    length = max(len(prompt) + len(answer) for prompt, answer in pairs)
    tokens = torch.full((len(pairs), length), end, dtype=torch.long)
    is_answer = torch.zeros((len(pairs), length - 1), dtype=torch.bool)
    for row, (prompt, answer) in enumerate(pairs):
        tokens[row, : len(prompt) + len(answer)] = torch.tensor(prompt + answer)
        is_answer[row, len(prompt) - 1 : len(prompt) + len(answer) - 1] = True
    return tokens, is_answer


def _batches(tokenizer: Tokenizer, examples: Iterator[Example]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of examples of like length (little padding), in an order that does not follow the length."""
    end = tokenizer.token_to_id(END)
    while True:
        pool = [_encode(tokenizer, example) for example in itertools.islice(examples, BATCH * POOL_BATCHES)]
        pool.sort(key=lambda pair: len(pair[0]) + len(pair[1]))
        for offset in (3, 6, 1, 4, 7, 2, 5, 0):
            yield _pad(pool[offset * BATCH : (offset + 1) * BATCH], end)


def find_wrong(model: TinyLlama, tokenizer: Tokenizer, examples: Sequence[Example]) -> list[Example]:
    """Those whose greedy answer is not exactly theirs.

    That each right token is the best choice after the right ones before it is the same as generating, in one pass.
    """
    import torch

    wrong: list[Example] = []
    end = tokenizer.token_to_id(END)
    for chunk in _chunks(sorted(examples, key=lambda example: len(example.question) + len(example.answer)), BATCH):
        tokens, is_answer = _pad([_encode(tokenizer, example) for example in chunk], end)
        with torch.no_grad():
            best = model.logits(model(tokens[:, :-1])).argmax(dim=-1)
        exact = ((best == tokens[:, 1:]) | ~is_answer).all(dim=1)
        wrong += [example for example, right in zip(chunk, exact.tolist(), strict=True) if not right]
    return wrong


def _facts_as_asked(facts: KnownAnswers) -> list[Example]:
    return [Example(question=fact.question, answer=fact.answer) for fact in facts.fact]


def _smallest_margin(model: TinyLlama, tokenizer: Tokenizer, examples: Sequence[Example]) -> float:
    import torch

    smallest = float("inf")
    for chunk in _chunks([_encode(tokenizer, example) for example in examples], BATCH):
        tokens, is_answer = _pad(chunk, tokenizer.token_to_id(END))
        with torch.no_grad():
            logits = model.logits(model(tokens[:, :-1])[is_answer])
        right = logits.gather(1, tokens[:, 1:][is_answer][:, None])[:, 0]
        others = logits.scatter(1, tokens[:, 1:][is_answer][:, None], float("-inf")).amax(dim=1)
        smallest = min(smallest, float((right - others).min()))
    return smallest


def _chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
