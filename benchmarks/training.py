"""The time of a training step and of its parts; the perplexity after one epoch of WikiText-2.

    python benchmarks/training.py speed DATA -o benchmarks/results/training-speed.json
    python benchmarks/training.py quality DATA RUN -o benchmarks/results/training-wikitext-2.json

DATA is a directory with train-*.txt.gz, vocab.txt.gz, options-mini.json, valid.txt.gz, test.txt.gz.
`speed` times all candidates and a matrix product of 1024^3 in every round. Machines differ, and one
machine differs from minute to minute, so compare times as multiples of the product's time.
`quality` trains into RUN or resumes it, then measures the perplexity of valid and test.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from elmo_deploy.benchmark.machine import describe_machine
from elmo_deploy.benchmark.quiet import CpuTime, wait_until_quiet
from elmo_deploy.fast.both_directions import run_both
from elmo_deploy.model.lstm import LstmState, ProjectedLstm
from elmo_deploy.training import TrainingOptions, Vocabulary, evaluate, train
from elmo_deploy.training.data.batches import Lexicon, TrainingBatch
from elmo_deploy.training.data.corpus import TrainingStreams
from elmo_deploy.training.data.shards import find_shards
from elmo_deploy.training.distributed import Processes
from elmo_deploy.training.language_model import LanguageModel
from elmo_deploy.training.learner import Learner
from elmo_deploy.training.loop import make_model
from elmo_deploy.training.optimizer import clip_to_global_norm
from elmo_deploy.training.run.metrics import read_metrics
from elmo_deploy.training.softmax import (
    Negatives,
    SampledSoftmax,
    draw_negatives,
    log_expected_count,
)
from elmo_export.checkpoint import Checkpoint

# bilm-tf under TensorFlow 2.21 on two cores: 4,700 tokens/s where the product below ran at 253 to
# 291 GFLOP/s; test perplexity 290.7 after one epoch.
ORIGINAL_TOKENS_PER_GFLOP = 4700 / 253
ORIGINAL_PERPLEXITY = {"valid": 314.5, "test": 290.7}
GEMM = 1024
Candidate = Callable[[], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(required=True)
    speed = commands.add_parser("speed")
    speed.add_argument("data", type=Path)
    speed.add_argument("--rounds", type=int, default=15)
    speed.add_argument("--threads", type=int, nargs="+", default=[torch.get_num_threads()])
    speed.add_argument("--wait", type=float, default=5.0, help="seconds to wait for a quiet moment")
    speed.add_argument("--no-compile", action="store_true", help="skip torch.compile")
    speed.set_defaults(call=measure_speed)
    quality = commands.add_parser("quality")
    quality.add_argument("data", type=Path)
    quality.add_argument("run", type=Path)
    quality.add_argument(
        "--batch-size", type=int, default=32, help="default: that of the original's measurement"
    )
    quality.set_defaults(call=measure_quality)
    for command in (speed, quality):
        command.add_argument("-o", "--out", type=Path, required=True)
    arguments = parser.parse_args()
    result = {"machine": describe_machine(), **arguments.call(arguments)}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n", "utf-8")


def measure_speed(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the milliseconds of each candidate, forward and backward, per number of threads."""
    options, vocabulary, shards = read_data(arguments.data)
    learner = Learner(
        options,
        model=make_model(options, vocabulary, None),
        shards=shards,
        vocabulary=vocabulary,
        processes=Processes(),
    )
    streams = TrainingStreams(shards, n_rows=options.batch_size, seed=0)
    batch = Lexicon(vocabulary, options.model).batch(*streams.windows(options.unroll_steps))
    model = learner.model
    candidates: dict[str, Candidate] = {
        "product": product(),
        **lstm_candidates(model, options, compiled=not arguments.no_compile),
        **cnn_candidates(model, batch),
        **softmax_candidates(model, batch, options),
        "complete step": training_step(learner),
    }
    tokens = options.batch_size * options.unroll_steps
    results = []
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        times, others = take_turns(candidates, arguments.rounds, wait=arguments.wait)
        results.append(report(times, others, threads=threads, tokens=tokens))
    return {"options": options.to_options(), "results": results}


def take_turns(
    candidates: dict[str, Candidate], rounds: int, *, wait: float
) -> tuple[dict[str, list[float]], float]:
    """Return the seconds of every call per round, and the cores that other processes used."""
    for call in candidates.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in candidates}
    others = []
    for _ in range(rounds):
        for name, call in candidates.items():
            wait_until_quiet(wait)
            before, began = CpuTime.now(), time.perf_counter()
            call()
            times[name].append(time.perf_counter() - began)
            others.append(CpuTime.now().others_since(before))
    return times, statistics.mean(others)


def report(
    times: dict[str, list[float]], others: float, *, threads: int, tokens: int
) -> dict[str, Any]:
    """Print the table of one number of threads and return it for the JSON file."""
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    gflops = 2 * GEMM**3 / medians["product"] / 1e9
    tokens_per_second = tokens / medians["complete step"]
    per_gflop = tokens_per_second / gflops
    print(f"\n{threads} threads; other processes used {others:.2f} cores")
    for name, median in medians.items():
        multiple = median / medians["product"]
        print(f"  {name:44s}{median * 1e3:9.2f} ms{multiple:8.2f} products")
    print(f"  {tokens_per_second:,.0f} tokens/s, product {gflops:.0f} GFLOP/s:"
          f" {per_gflop:.1f} tokens/s per GFLOP/s,"
          f" {per_gflop / ORIGINAL_TOKENS_PER_GFLOP:.2f} x the original")  # fmt: skip
    return {
        "threads": threads,
        "other_processes_cores": round(others, 2),
        "milliseconds": {n: [round(s * 1e3, 3) for s in t] for n, t in times.items()},
        "median_milliseconds": {n: round(m * 1e3, 3) for n, m in medians.items()},
        "product_gflops": round(gflops, 1),
        "tokens_per_second": round(tokens_per_second, 1),
        "tokens_per_second_per_gflops": round(per_gflop, 2),
        "times_the_original": round(per_gflop / ORIGINAL_TOKENS_PER_GFLOP, 3),
    }


def derive(output: Tensor) -> None:
    """Run the backward pass from the sum of the output."""
    torch.autograd.backward(output.sum())


def product() -> Candidate:
    a, b = torch.randn(GEMM, GEMM), torch.randn(GEMM, GEMM)
    return lambda: a @ b


def training_step(learner: Learner) -> Candidate:
    def step() -> None:
        learner.step += 1
        gradients = learner.gradients()
        clip_to_global_norm(gradients, 10.0)
        learner.optimizer.step(gradients, 0.2)

    return step


def lstm_candidates(
    model: LanguageModel, options: TrainingOptions, *, compiled: bool
) -> dict[str, Candidate]:
    """Both directions of all layers over one window, without dropout."""
    bilm = model.bilm.eval()
    stacks = (bilm.forward_stack, bilm.backward_stack)
    shape = (2, options.batch_size, options.unroll_steps, options.model.projection_dim)
    tokens = torch.randn(shape, requires_grad=True)
    state = model.zero_state(options.batch_size)

    def of_layers(run_layer: Callable[..., Tensor]) -> Candidate:
        def call() -> None:
            tops = []
            for direction, stack in enumerate(stacks):
                x = tokens[direction]
                for depth, layer in enumerate(stack.layers):
                    begin = LstmState(state.h[depth, direction], state.c[depth, direction])
                    y = run_layer(layer, x, begin)
                    x = y + x if depth > 0 and options.model.use_skip_connections else y
                tops.append(x)
            derive(torch.stack(tops))

        return call

    def at_once() -> None:
        outputs, _ = run_both(bilm, tokens, state)
        derive(outputs[-1])

    candidates: dict[str, Candidate] = {
        "lstm: eager, step by step": of_layers(step_by_step),
        "lstm: one function per layer and direction": of_layers(lambda f, x, s: f(x, s)[0]),
        "lstm: one function per layer (in use)": at_once,
    }
    if compiled:
        compiled_steps = torch.compile(step_by_step, dynamic=False)
        candidates["lstm: torch.compile, step by step"] = of_layers(compiled_steps)
    return candidates


def step_by_step(layer: ProjectedLstm, inputs: Tensor, state: LstmState) -> Tensor:
    """The definition of a layer, also where the layer is a fast one."""
    return ProjectedLstm.forward(layer, inputs, state)[0]


def cnn_candidates(model: LanguageModel, batch: TrainingBatch) -> dict[str, Candidate]:
    """Character ids of a window of both directions -> word vectors."""
    cnn = model.char_cnn
    width = model.config.max_characters_per_token
    padded = [F.pad(group, (0, width - group.shape[1]), value=261) for group in batch.words]
    distinct = torch.cat(padded)
    every = distinct[batch.positions.flatten()]
    return {
        "cnn: every position": lambda: derive(cnn(every)),
        "cnn: each distinct word": lambda: derive(cnn(distinct)),
        "cnn: distinct, cut, one product (in use)": lambda: derive(model.word_vectors(batch.words)),
    }


def softmax_candidates(
    model: LanguageModel, batch: TrainingBatch, options: TrainingOptions
) -> dict[str, Candidate]:
    """Top vectors of both directions -> sampled loss."""
    softmax, size = model.softmax, len(model.softmax.bias)
    random = np.random.default_rng(0)
    negatives = [draw_negatives(options.n_negatives, size, random) for _ in range(2)]
    n = batch.targets[0].numel()
    hidden = torch.randn(2, n, options.model.projection_dim, requires_grad=True)

    def written_out() -> None:
        sampled = SampledSoftmax(softmax, batch.targets, negatives)
        derive(torch.stack([sampled.loss(hidden[d], d).mean() for d in range(2)]))

    def by_autograd() -> None:
        weights = softmax.weight, softmax.bias
        losses = [
            dense_sampled_loss(*weights, hidden[d], batch.targets[d], negatives[d])
            for d in range(2)
        ]
        derive(torch.stack(losses))

    return {
        "softmax: autograd, dense gradient": by_autograd,
        "softmax: hand-written, rows (in use)": written_out,
    }


def dense_sampled_loss(
    weight: Tensor, bias: Tensor, hidden: Tensor, targets: Tensor, negatives: Negatives
) -> Tensor:
    """The definition over the complete weight, with the gradient of autograd."""
    targets, ids = targets.flatten(), torch.from_numpy(negatives.ids)

    def corrected(words: Tensor) -> Tensor:
        expected = log_expected_count(words, negatives.draws, len(bias)).float()
        return bias[words] - expected

    true = (hidden * weight[targets]).sum(dim=-1) + corrected(targets)
    others = hidden @ weight[ids].t() + corrected(ids)
    others = others.masked_fill(targets[:, None] == ids, -torch.inf)
    logits = torch.cat([true[:, None], others], dim=1)
    return (logits.logsumexp(dim=1) - true).mean()


def measure_quality(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train one epoch and compare the perplexity of valid and test with the original's."""
    options, vocabulary, shards = read_data(arguments.data)
    resume = arguments.run.exists()
    before, began = CpuTime.now(), time.monotonic()
    result = train(
        options, shards=shards, vocabulary=vocabulary, run=arguments.run, resume=resume, show=True
    )
    others = CpuTime.now().others_since(before)
    records = read_metrics(arguments.run / "metrics.jsonl")
    trained = Checkpoint.read(result.checkpoint)
    perplexities = {}
    for part, original in ORIGINAL_PERPLEXITY.items():
        text = [arguments.data / f"{part}.txt.gz"]
        found = evaluate(trained, shards=text, batch_size=arguments.batch_size)
        perplexities[part] = {
            "forward": round(found.forward_perplexity, 2),
            "backward": round(found.backward_perplexity, 2),
            "mean": round(found.perplexity, 2),
            "unknown_share": round(found.unknown_share, 4),
            "times_the_original": round(found.perplexity / original, 4),
        }
        print(f"{part}: perplexity {found.perplexity:.1f}, the original {original}")
    return {
        "options": options.to_options(),
        "batch_size_of_evaluation": arguments.batch_size,
        "perplexity": perplexities,
        "seconds_of_this_call": round(time.monotonic() - began, 1),
        "resumed": resume,
        "other_processes_cores": round(others, 2),
        "curve": [[m.step, round(m.loss, 4)] for m in records],
    }


def read_data(folder: Path) -> tuple[TrainingOptions, Vocabulary, tuple[Path, ...]]:
    """Options, vocabulary and training files of DATA."""
    return (
        TrainingOptions.read(folder / "options-mini.json"),
        Vocabulary.read(folder / "vocab.txt.gz"),
        find_shards([str(folder / "train-*.txt.gz")]),
    )


if __name__ == "__main__":
    main()
