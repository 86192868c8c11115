"""The time of `elmo_deploy.fast` and of the equations that it replaces, in PyTorch on one thread.

    python benchmarks/fast_forms.py -o benchmarks/results/fast-forms.json

`inference` is what `export` and `verify` compute as their reference; `fine-tuning` adds the
backward pass through all weights. Weights and words are random. Both forms take turns, and each
result is the smallest CPU time of the process over all rounds, which hardly depends on other load.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from elmo_deploy.benchmark.loads import drawn_sentences, grid_load
from elmo_deploy.benchmark.machine import describe_machine
from elmo_deploy.model import Elmo
from elmo_runtime.characters import char_ids
from elmo_runtime.config import ElmoConfig
from elmo_runtime.files.atomic import atomic_file

FILTERS = ((1, 32), (2, 32), (3, 64), (4, 128), (5, 256), (6, 512), (7, 1024))
SIZES = {"small": (128, 1024, 1), "original": (512, 4096, 2)}  # P, C, highway layers
LOADS = (("small", 1), ("small", 32), ("original", 1))  # size, sentences of 20 tokens per batch
LENGTH = 20


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("-o", "--output", type=Path, required=True)
    options = arguments.parse_args()
    torch.set_num_threads(1)
    results = []
    for size, batch in LOADS:
        models = {fast: elmo(size, fast=fast) for fast in (True, False)}
        for work, seconds in measure(models, batch, options.rounds):
            results.append({"size": size, "batch": batch, "work": work, **seconds})
            print(results[-1], flush=True)
    with atomic_file(options.output) as scratch:
        report = {"machine": describe_machine(), "rounds": options.rounds, "results": results}
        scratch.write_text(json.dumps(report, indent=1) + "\n", "utf-8")


def elmo(size: str, *, fast: bool) -> Elmo:
    """An ELMo of a published size with random weights."""
    projection, cell, n_highway = SIZES[size]
    config = ElmoConfig(
        projection_dim=projection,
        lstm_dim=cell,
        n_layers=2,
        use_skip_connections=True,
        cell_clip=3.0,
        proj_clip=3.0,
        char_embedding_dim=16,
        filters=FILTERS,
        n_highway=n_highway,
    )
    return Elmo(config, fast=fast, requires_grad=True)


def measure(
    models: dict[bool, Elmo], batch: int, rounds: int
) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield the name of each kind of work and the CPU seconds of both forms."""
    ids = random_ids(batch)
    for name, call in (("inference", infer), ("fine-tuning", fine_tune)):
        times: dict[bool, list[float]] = {fast: [] for fast in models}
        for _ in range(rounds + 1):
            for fast, model in models.items():
                start = time.process_time()
                call(model, ids)
                times[fast].append(time.process_time() - start)
        best = {fast: round(min(seconds[1:]), 3) for fast, seconds in times.items()}
        yield name, {"fast": best[True], "equations": best[False]}


def random_ids(batch: int) -> Tensor:
    """(batch, 20, 50) character ids of random words."""
    load = grid_load(batch, LENGTH, drawn_sentences(100, np.random.default_rng(0)))
    words = [token for sentence in load.calls[0] for token in sentence]
    return torch.from_numpy(char_ids(words).astype(np.int64)).view(batch, LENGTH, -1)


@torch.inference_mode()
def infer(model: Elmo, ids: Tensor) -> None:
    """The forward pass without gradients."""
    model(ids)


def fine_tune(model: Elmo, ids: Tensor) -> None:
    """Forward and backward pass through all weights."""
    model.zero_grad()
    model(ids).default[0].square().sum().backward()


if __name__ == "__main__":
    main()
