"""What ELMo's vectors are worth to a tagger: entities and tags, next to the controls.

    python benchmarks/downstream.py ner BUNDLE --data WNUT17_FOLDER -o benchmarks/results/ner.json
    python benchmarks/downstream.py tags BUNDLE --data UD_EWT_FOLDER -o benchmarks/results/tags.json

The tagger is examples/tagger.py with four kinds of vectors: none, layer 0 (which sees no context),
the learned mix of all layers, and the learned mix of the same architecture with random weights
(another draw for every seed). Every tenth training sentence chooses the epoch. WNUT17 is tested on
its dev file, since the shared task's test file is not part of the data; nothing else sees it.
A run that is interrupted continues with what OUTPUT lacks.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from treebank import read_treebank

from elmo_deploy import Elmo, Embedder
from elmo_deploy.benchmark.machine import describe_machine
from elmo_runtime.config import ElmoConfig
from elmo_runtime.files.atomic import atomic_file

sys.path.append(str(Path(__file__).parents[1] / "examples"))
from tagger import FineTunedVectors, FrozenVectors, Measure, Recipe, Tagger, score, train
from tagger_data import Inventory, Sentence, accuracy, entity_f1, in_batches, read_conll

SYSTEMS = ("no ELMo", "layer 0", "mix", "random weights, mix")
MEASURES: dict[str, tuple[str, Measure]] = {
    "ner": ("entity F1, %", entity_f1),
    "tags": ("accuracy, %", accuracy),
}


def main() -> None:
    options = parse()
    training, tests = read(options.task, options.data)
    recipe = Recipe(epochs=options.epochs)
    results = load(options, recipe, training, tests)
    with Embedder.load(options.bundle) as embedder:
        config = embedder.config
        trained = FrozenVectors.embed(embedder, [*training, *tests])
    for seed in range(options.seeds):
        for system in SYSTEMS:
            key = f"{system}, seed {seed}"
            if key in results["runs"]:
                continue
            vectors = vectors_of(system, trained, config, seed, [*training, *tests])
            outcome = run(vectors, training, tests, MEASURES[options.task][1], recipe, seed)
            results["runs"][key] = {"system": system, "seed": seed, **outcome}
            save(results, options.output)
            print(key, json.dumps(outcome), flush=True)
    print(table(results))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("task", choices=tuple(MEASURES))
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder of WNUT17 or of UD EWT")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("-o", "--output", type=Path, required=True)
    return parser.parse_args()


def read(task: str, folder: Path) -> tuple[list[Sentence], list[Sentence]]:
    """The sentences to train on and those to test on."""
    if task == "ner":
        names = ("wnut17train.conll", "emerging.dev.conll")
        training, tests = (read_conll(folder / name) for name in names)
    else:
        treebank = read_treebank(folder)
        training, tests = ([Sentence(*one) for one in treebank[p]] for p in ("train", "test"))
    return training, tests


def load(
    options: argparse.Namespace,
    recipe: Recipe,
    training: Sequence[Sentence],
    tests: Sequence[Sentence],
) -> dict[str, Any]:
    """The results so far. Raises SystemExit where they come from another recipe or model."""
    results: dict[str, Any] = {
        "task": options.task,
        "measure": MEASURES[options.task][0],
        "model": options.bundle.resolve().name,
        "recipe": {**vars(recipe), "seed": "0, 1, ..."},
        "training_sentences": len(training),
        "test_sentences": len(tests),
        "test_words": sum(len(sentence.words) for sentence in tests),
    }
    if not options.output.exists():
        return {**results, "machine": describe_machine(), "runs": {}}
    before: dict[str, Any] = json.loads(options.output.read_text("utf-8"))
    if changed := [name for name, value in results.items() if before.get(name) != value]:
        sys.exit(f"{options.output} has another {', '.join(changed)}; name a new file")
    return before


def save(results: dict[str, Any], path: Path) -> None:
    with atomic_file(path) as scratch:
        scratch.write_text(json.dumps(results, indent=1) + "\n", "utf-8")


def vectors_of(
    system: str,
    trained: FrozenVectors,
    config: ElmoConfig,
    seed: int,
    sentences: Sequence[Sentence],
) -> FrozenVectors | None:
    choices: dict[str, Callable[[], FrozenVectors | None]] = {
        "no ELMo": lambda: None,
        "layer 0": lambda: trained.of_layers(0, 1),
        "mix": lambda: trained,
        "random weights, mix": lambda: random_vectors(config, seed, sentences),
    }
    return choices[system]()


@torch.no_grad()
def random_vectors(config: ElmoConfig, seed: int, sentences: Sequence[Sentence]) -> FrozenVectors:
    """The layers of an ELMo with the paper's initialization and no training."""
    layers_of = FineTunedVectors(Elmo(config, seed=seed).eval(), sentences)
    inventory = Inventory.of(sentences)
    found: dict[int, torch.Tensor] = {}
    for numbers in in_batches(sentences, range(len(sentences)), 64):
        layers = torch.stack(layers_of(inventory.batch(sentences, numbers)), dim=2).half()
        found.update({n: row[: len(sentences[n].words)].clone()
                      for n, row in zip(numbers, layers, strict=True)})  # fmt: skip
    return FrozenVectors([found[number] for number in range(len(sentences))])


def run(
    vectors: FrozenVectors | None,
    training: Sequence[Sentence],
    tests: Sequence[Sentence],
    measure: Measure,
    recipe: Recipe,
    seed: int,
) -> dict[str, Any]:
    """One tagger, trained and tested."""
    torch.manual_seed(seed)
    began, sentences = time.process_time(), [*training, *tests]
    inventory = Inventory.of(training)
    recipe = Recipe(**{**vars(recipe), "seed": seed})
    tagger = Tagger(inventory, vectors, recipe)
    held_out = train(tagger, inventory, training, measure, recipe)
    tested = range(len(training), len(sentences))
    outcome: dict[str, Any] = {
        "test": round(score(tagger, inventory, sentences, tested, measure), 2),
        "held_out": [round(value, 2) for value in held_out],
        "cpu_seconds": round(time.process_time() - began),
    }
    if vectors is not None:
        shares = torch.softmax(tagger.mix.weights[0], dim=0).tolist()
        outcome |= {"mix": [round(share, 3) for share in shares]}
    return outcome


def table(results: dict[str, Any]) -> str:
    """Markdown: mean and standard deviation over the seeds of each system."""
    lines = [f"| vectors | {results['measure']} | by seed |", "| --- | --- | --- |"]
    for system in SYSTEMS:
        values = [run["test"] for run in results["runs"].values() if run["system"] == system]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        each = ", ".join(f"{value:.1f}" for value in values)
        lines.append(f"| {system} | {statistics.mean(values):.1f} ± {spread:.1f} | {each} |")
    return "\n".join(lines)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
