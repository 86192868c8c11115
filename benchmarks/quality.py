"""The information in each layer: a linear probe of part-of-speech tags, and contextual neighbors.

    python benchmarks/quality.py BUNDLE --treebank UD_FOLDER -o benchmarks/results/quality.json

The probe is one linear layer (softmax regression) on frozen vectors. It is trained on the train
split, the dev split chooses its epoch, and the test split measures it. Two baselines are the same
architecture with random weights and the most frequent tag of each word. "mix" learns ELMo's layer
weights together with the probe.
"""

from __future__ import annotations

import argparse
import gzip
import json
import platform
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from elmo_deploy.model import Elmo
from elmo_deploy.model.reference import reference
from elmo_export import export_bundle
from elmo_runtime import Embedder
from elmo_runtime.config import ElmoConfig

PARTS = ("train", "dev", "test")
EPOCHS, BATCH, SEED = 8, 1024, 0

# Each word has two senses; the nearest neighbor of an occurrence should share its sense.
AMBIGUOUS = {
    "left": {
        "departed": [
            "She left the house before dawn .",
            "He left London on Monday morning .",
            "They left the room without a word .",
            "My father left for the war in spring .",
            "The guests left the table at nine .",
        ],
        "side": [
            "He carried the lamp in his left hand .",
            "She sat on the left side of the fire .",
            "There was a scar upon his left cheek .",
            "The road to the left leads to the sea .",
            "His left arm hung broken at his side .",
        ],
    },
    "kind": {
        "gentle": [
            "She was always kind to the children .",
            "You are very kind , said the old man .",
            "He had a kind face and a soft voice .",
            "It was kind of you to come so far .",
            "They were kind to the poor stranger .",
        ],
        "sort": [
            "What kind of man would do this ?",
            "He had never seen that kind of bird .",
            "It was a kind of garden behind a wall .",
            "I do not like this kind of weather .",
            "She felt a kind of terror at the sound .",
        ],
    },
    "saw": {
        "seen": [
            "I saw a ship upon the horizon .",
            "She saw him cross the street .",
            "We saw the lights of the town .",
            "He saw nothing but the dark trees .",
            "They saw her at the church on Sunday .",
        ],
        "tool": [
            "The carpenter took a saw and a hammer .",
            "He cut the plank with a rusty saw .",
            "A saw and an axe lay on the bench .",
            "The teeth of the saw were blunt .",
            "She bought a new saw for her father .",
        ],
    },
}


@dataclass(frozen=True)
class Split:
    """Vectors (tokens, layers, 2P) and tags (tokens,) of one part of the treebank."""

    vectors: Tensor
    tags: Tensor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--treebank", type=Path, required=True, help="directory of en_ewt-ud-*.gz")
    parser.add_argument("--precision", nargs="*", default=[], help="more precisions to probe")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    treebank = {
        part: list(read_conllu(arguments.treebank, part)) for part in ("train", "dev", "test")
    }
    tagset = sorted(
        {tag for sentences in treebank.values() for _, tags in sentences for tag in tags}
    )

    with Embedder.load(arguments.bundle) as trained:
        result: dict[str, object] = {
            "machine": f"{platform.machine()}, torch {torch.__version__}",
            "model": arguments.bundle.name,
            "config": trained.config.to_options(),
            "test tokens": sum(len(tags) for _, tags in treebank["test"]),
            "most frequent tag of the word": most_frequent_tag(treebank),
            "trained": probe_all(trained, treebank, tagset),
            "neighbors": {word: neighbors(trained, word, AMBIGUOUS[word]) for word in AMBIGUOUS},
        }
        config = trained.config
    for precision in arguments.precision:
        with Embedder.load(arguments.bundle, precision=precision) as lower:
            result[f"trained, {precision}"] = probe_all(lower, treebank, tagset)
    with (
        tempfile.TemporaryDirectory() as folder,
        random_embedder(config, Path(folder)) as untrained,
    ):
        result["random weights"] = probe_all(untrained, treebank, tagset)
        result["neighbors of random weights"] = {
            word: neighbors(untrained, word, AMBIGUOUS[word]) for word in AMBIGUOUS
        }
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    plot(result, arguments.output.with_suffix(".png"))
    print(json.dumps(result, indent=1))


def read_conllu(folder: Path, part: str) -> Iterator[tuple[list[str], list[str]]]:
    """Yield (words, universal tags) per sentence, without multiword ranges and empty nodes."""
    words: list[str] = []
    tags: list[str] = []
    with gzip.open(folder / f"en_ewt-ud-{part}.conllu.gz", "rt", encoding="utf-8") as stream:
        for line in stream:
            columns = line.rstrip("\n").split("\t")
            if columns[0].isdigit():
                words.append(columns[1])
                tags.append(columns[3])
            elif not line.strip() and words:
                yield words, tags
                words, tags = [], []


def most_frequent_tag(treebank: dict[str, list[tuple[list[str], list[str]]]]) -> float:
    """Accuracy in percent when each test word gets its most frequent tag in the train split."""
    counts: dict[str, Counter[str]] = {}
    for words, tags in treebank["train"]:
        for word, tag in zip(words, tags, strict=True):
            counts.setdefault(word, Counter())[tag] += 1
    usual = {word: tally.most_common(1)[0][0] for word, tally in counts.items()}
    pairs = [pair for words, tags in treebank["test"] for pair in zip(words, tags, strict=True)]
    return round(100 * sum(usual.get(word, "NOUN") == tag for word, tag in pairs) / len(pairs), 2)


def random_embedder(config: ElmoConfig, folder: Path) -> Embedder:
    """The same architecture with the paper's initialization and no training."""
    checkpoint = Elmo(config).to_checkpoint()
    export_bundle(checkpoint, folder / "random", reference=reference(checkpoint))
    return Embedder.load(folder / "random")


def probe_all(
    embedder: Embedder,
    treebank: dict[str, list[tuple[list[str], list[str]]]],
    tagset: Sequence[str],
) -> dict[str, float]:
    """Test accuracy in percent of a probe on each layer and on the learned mix."""
    splits = {part: embed(embedder, sentences, tagset) for part, sentences in treebank.items()}
    n_layers = splits["train"].vectors.shape[1]
    accuracies = {
        f"layer {layer}": probe({k: only_layer(s, layer) for k, s in splits.items()}, len(tagset))
        for layer in range(n_layers)
    }
    return accuracies | {"mix": probe(splits, len(tagset))}


def only_layer(split: Split, layer: int) -> Split:
    return Split(split.vectors[:, layer : layer + 1], split.tags)


def embed(
    embedder: Embedder, sentences: Sequence[tuple[list[str], list[str]]], tagset: Sequence[str]
) -> Split:
    """Return the frozen vectors and tag numbers of all tokens."""
    number = {tag: index for index, tag in enumerate(tagset)}
    stream = embedder.embed_stream((words for words, _ in sentences), outputs=["layers"])
    vectors = [np.swapaxes(one["layers"][0], 0, 1) for one in stream]
    tags = [number[tag] for _, tags in sentences for tag in tags]
    return Split(torch.from_numpy(np.concatenate(vectors)), torch.tensor(tags))


class Probe(nn.Module):
    """Standardize each layer by the train split, mix by softmax weights, one linear layer."""

    def __init__(self, train: Split, n_tags: int) -> None:
        super().__init__()
        _, n_layers, width = train.vectors.shape
        self.mean, self.std = train.vectors.mean(0), train.vectors.std(0) + 1e-6
        self.mix = nn.Parameter(torch.zeros(n_layers))
        self.linear = nn.Linear(width, n_tags)

    def forward(self, vectors: Tensor) -> Tensor:
        """(tokens, layers, 2P) -> (tokens, tags) scores."""
        standard = (vectors - self.mean) / self.std
        return self.linear(torch.einsum("l,tlw->tw", torch.softmax(self.mix, 0), standard))


def probe(splits: dict[str, Split], n_tags: int) -> float:
    """Train on train, keep the epoch best on dev, return test accuracy in percent."""
    torch.manual_seed(SEED)
    train = splits["train"]
    model = Probe(train, n_tags)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, weight_decay=1e-5)
    best_dev, test_accuracy = -1.0, 0.0
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(train.tags)).split(BATCH):
            loss = nn.functional.cross_entropy(model(train.vectors[chosen]), train.tags[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        dev = accuracy(model, splits["dev"])
        if dev > best_dev:
            best_dev, test_accuracy = dev, accuracy(model, splits["test"])
    return round(test_accuracy, 2)


@torch.no_grad()
def accuracy(model: Probe, split: Split) -> float:
    return 100 * (model(split.vectors).argmax(-1) == split.tags).float().mean().item()


def neighbors(embedder: Embedder, word: str, senses: dict[str, list[str]]) -> dict[str, float]:
    """Percentage of occurrences whose nearest other occurrence (by cosine) has the same sense."""
    labeled = [(s.split(), sense) for sense, sentences in senses.items() for s in sentences]
    layers = embedder.embed([words for words, _ in labeled], outputs=["layers"])["layers"]
    shares = {}
    for layer in range(len(layers[0])):
        x = np.stack([v[layer][w.index(word)] for v, (w, _) in zip(layers, labeled, strict=True)])
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
        similarity = x @ x.T - 2 * np.eye(len(x))
        nearest = similarity.argmax(1)
        agree = [labeled[i][1] == labeled[j][1] for i, j in enumerate(nearest)]
        shares[f"layer {layer}"] = round(100 * float(np.mean(agree)), 1)
    return shares


def plot(result: dict[str, object], path: Path) -> None:
    """Draw bars of the probe's accuracy with trained and with random weights."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    trained, untrained = result["trained"], result["random weights"]
    assert isinstance(trained, dict) and isinstance(untrained, dict)
    figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    x = np.arange(len(trained))
    for offset, (label, values, color) in zip(
        (-0.2, 0.2),
        (("trained", trained, "#2a6f97"), ("random weights", untrained, "#c9c9c9")),
        strict=True,
    ):
        bars = axes.bar(x + offset, values.values(), 0.4, label=label, color=color)
        axes.bar_label(bars, fmt="%.1f", fontsize=8)
    baseline = result["most frequent tag of the word"]
    assert isinstance(baseline, float)
    axes.axhline(baseline, color="#d1495b", lw=1, ls="--", label="most frequent tag of the word")
    axes.set_xticks(x, list(trained))
    axes.set_ylim(50, 100)
    axes.set_ylabel("accuracy, %")
    axes.set_title("Part-of-speech tags by a linear probe (UD English EWT, test)", fontsize=10)
    axes.legend(frameon=False, loc="upper left", ncols=3, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=160)


if __name__ == "__main__":
    main()
