"""What an ELMo's layers know, each figure next to its controls.

    python benchmarks/quality.py BUNDLE --checkpoint CHECKPOINT --treebank UD_EWT_FOLDER
        -o benchmarks/results/quality.json

Three measures. The tags of UD English EWT by a linear probe on frozen vectors: trained on the train
split, its epoch chosen on dev, measured on test; "mix" learns ELMo's layer weights with the probe.
The words of EWT with several tags, by the tag of the nearest other use. The senses of six words in
examples/sentences.tsv, by that of the nearest other sentence. The controls are the same
architecture with random weights, several draws of it, and methods that use no ELMo.
A run that is interrupted continues with what OUTPUT lacks. The picture has the same name.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from controls import controls
from homographs import by_cosine, by_neighbors, homographs, most_frequent, share_right
from probing import Split, embed, probe_all
from treebank import Treebank, read_treebank, tags_of

from elmo_deploy import Checkpoint, Elmo, Embedder, export_bundle
from elmo_deploy.benchmark.machine import describe_machine
from elmo_deploy.model.reference import reference
from elmo_runtime.config import ElmoConfig
from elmo_runtime.files.atomic import atomic_file

sys.path.append(str(Path(__file__).parents[1] / "examples"))
from sense_controls import controls as sense_controls
from sense_controls import layers, mean_of_layers, same_sense
from senses import read_examples

SENTENCES = Path(__file__).parents[1] / "examples" / "sentences.tsv"
Result = dict[str, Any]


def main() -> None:
    options = parse()
    treebank = read_treebank(options.treebank)
    results = Results(options.output)
    results.add("machine", describe_machine)
    results.add("model", lambda: options.checkpoint.resolve().name)
    results.add("test words", lambda: len(tags_of(treebank["test"])))
    results.add("senses", lambda: senses(options.checkpoint))
    results.add("trained", lambda: of_bundle(options.bundle, treebank))
    results.add("tags without ELMo", lambda: controls(treebank))
    results.add("words with several tags without ELMo", lambda: homograph_controls(treebank))
    config = Checkpoint.read(options.checkpoint).config
    for seed in range(options.draws):
        results.add(f"random weights, draw {seed}", lambda: of_random(config, seed, treebank))  # noqa: B023
    plot(results.found, options.output.with_suffix(".png"))
    print(table(results.found))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--checkpoint", type=Path, required=True, help="what the bundle came from")
    parser.add_argument("--treebank", type=Path, required=True, help="directory of en_ewt-ud-*.gz")
    parser.add_argument("--draws", type=int, default=3, help="of random weights")
    parser.add_argument("-o", "--output", type=Path, required=True)
    return parser.parse_args()


class Results:
    """The figures so far, in a file that is written again after each."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.found: Result = json.loads(path.read_text("utf-8")) if path.exists() else {}

    def add(self, name: str, measure: Callable[[], Any]) -> None:
        """Measure what the file lacks."""
        if name in self.found:
            return
        self.found[name] = measure()
        print(name, self.found[name], file=sys.stderr, flush=True)
        with atomic_file(self._path) as scratch:
            scratch.write_text(json.dumps(self.found, indent=1) + "\n", "utf-8")


def senses(checkpoint: Path) -> Result:
    """How many of the 72 nearest neighbors have the same sense."""
    examples = read_examples(SENTENCES)
    elmo = Elmo.from_checkpoint(checkpoint)
    counts = {
        f"layer {number}": same_sense(examples, vectors)
        for number, vectors in enumerate(layers(examples, elmo))
    }
    counts["mean of the layers"] = same_sense(examples, mean_of_layers(examples, elmo))
    found = {"sentences": len(examples), **counts, **sense_controls(examples, elmo)}
    return {name: round(count, 1) for name, count in found.items()}


def of_bundle(bundle: Path, treebank: Treebank) -> Result:
    """Both measures on the treebank, for the vectors of a bundle."""
    with Embedder.load(bundle) as embedder:
        splits = embed(embedder, treebank)
    return {"tags": probe_all(splits), "words with several tags": nearest_tags(splits, treebank)}


def of_random(config: ElmoConfig, seed: int, treebank: Treebank) -> Result:
    """The same for the paper's initialization and no training."""
    checkpoint = Elmo(config, seed=seed).to_checkpoint()
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "random"
        export_bundle(checkpoint, bundle, reference=reference(checkpoint))
        return of_bundle(bundle, treebank)


def nearest_tags(splits: dict[str, Split], treebank: Treebank) -> dict[str, float]:
    """Percent right per layer, on the words with several tags."""
    words = homographs(treebank)
    arrays = {part: splits[part].vectors.numpy() for part in ("train", "test")}
    return {
        f"layer {layer}": share_right(
            words, by_cosine(arrays["test"][:, layer], arrays["train"][:, layer])
        )
        for layer in range(arrays["train"].shape[1])
    }


def homograph_controls(treebank: Treebank) -> Result:
    """Percent right without ELMo, and what was counted."""
    words = homographs(treebank)
    return {
        "words": len(words),
        "test occurrences": sum(len(one.test) for one in words),
        "most frequent tag of the word": most_frequent(words),
        "two neighboring words, one-hot": share_right(words, by_neighbors(treebank)),
    }


def draws(found: Result, measure: str) -> dict[str, float]:
    """The mean over the draws of random weights, per layer."""
    each = [row[measure] for name, row in found.items() if name.startswith("random weights, draw")]
    names = each[0] if each else ()
    return {name: round(sum(one[name] for one in each) / len(each), 2) for name in names}


def n_draws(found: Result) -> int:
    """How many draws of random weights were measured."""
    return sum(name.startswith("random weights, draw") for name in found)


def table(found: Result) -> str:
    """Markdown: tag accuracy of each layer and of each control."""
    lines = ["| vectors | layer 0 | layer 1 | layer 2 | mix |", "| --- | --- | --- | --- | --- |"]
    for name, row in (("trained", found["trained"]["tags"]), ("random", draws(found, "tags"))):
        lines.append(f"| {name} | " + " | ".join(f"{value:.1f}" for value in row.values()) + " |")
    lines += [f"| {name} | {value:.1f} |" for name, value in found["tags without ELMo"].items()]
    return "\n".join(lines)


def plot(found: Result, path: Path) -> None:
    """Draw the probe's accuracy with trained and random weights, and lines for the controls."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7.2, 4.2), layout="constrained")
    rows = (
        ("trained", found["trained"]["tags"], -0.2, "#2a6f97"),
        (f"random weights, draws: {n_draws(found)}", draws(found, "tags"), 0.2, "#c9c9c9"),
    )
    for label, values, offset, color in rows[: 1 + bool(n_draws(found))]:
        places = [number + offset for number in range(len(values))]
        bars = axes.bar(places, list(values.values()), 0.4, label=label, color=color)
        axes.bar_label(bars, fmt="%.1f", fontsize=9, label_type="center")
    shown = {name: value for name, value in found["tags without ELMo"].items() if value > 60}
    colors = ("#d1495b", "#edae49", "#66a182", "#7a5195")
    for (name, value), color in zip(shown.items(), colors, strict=False):
        axes.axhline(value, color=color, lw=1, ls="--", label=f"{name}: {value:.1f}")
    axes.set_xticks(range(len(found["trained"]["tags"])), list(found["trained"]["tags"]))
    axes.set_ylim(40, 100)
    axes.set_ylabel("accuracy, %")
    axes.set_title("Part-of-speech tags by a linear probe (UD English EWT, test)", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, loc="outside lower center", ncols=2, fontsize=8)
    figure.savefig(path, dpi=160)


if __name__ == "__main__":
    torch.set_num_threads(2)
    main()
