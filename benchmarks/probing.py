"""Frozen vectors of a treebank -> how well a linear probe reads the tags from each layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from treebank import PARTS, Tagged, Treebank, tags_of

from elmo_deploy import Embedder

EPOCHS, BATCH, SEED = 8, 1024, 0


@dataclass(frozen=True)
class Split:
    """Vectors (tokens, layers, 2P) in half precision and tags (tokens,) of one part."""

    vectors: Tensor
    tags: Tensor


def embed(embedder: Embedder, treebank: Treebank) -> dict[str, Split]:
    """Frozen vectors and tag numbers of every token; the vectors are kept in half precision."""
    tagset = sorted({tag for part in PARTS for tag in tags_of(treebank[part])})
    number = {tag: index for index, tag in enumerate(tagset)}
    return {
        part: Split(
            _vectors(embedder, treebank[part]),
            torch.tensor([number[tag] for tag in tags_of(treebank[part])]),
        )
        for part in PARTS
    }


def _vectors(embedder: Embedder, sentences: Sequence[Tagged]) -> Tensor:
    stream = embedder.embed_stream((words for words, _ in sentences), outputs=["layers"])
    layers = (np.swapaxes(one["layers"][0], 0, 1).astype(np.float16) for one in stream)
    return torch.from_numpy(np.concatenate(list(layers)))


def probe_all(splits: dict[str, Split]) -> dict[str, float]:
    """Test accuracy in percent of a probe on each layer and on the learned mix."""
    layers = [_standardized(splits, k) for k in range(splits["train"].vectors.shape[1])]
    tags = {part: split.tags for part, split in splits.items()}
    accuracies = {f"layer {k}": probe([layer], tags) for k, layer in enumerate(layers)}
    return accuracies | {"mix": probe(layers, tags)}


def _standardized(splits: dict[str, Split], layer: int) -> dict[str, Tensor]:
    """A layer with mean 0 and deviation 1 over the training tokens, (tokens, 2P) per part."""
    vectors = {part: split.vectors[:, layer].float() for part, split in splits.items()}
    mean, deviation = vectors["train"].mean(0), vectors["train"].std(0) + 1e-6
    return {part: v.sub_(mean).div_(deviation) for part, v in vectors.items()}


class Probe(nn.Module):
    """Mix the layers by softmax weights, then one linear layer."""

    def __init__(self, n_layers: int, width: int, n_tags: int) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.zeros(n_layers))
        self.linear = nn.Linear(width, n_tags)

    def forward(self, layers: Sequence[Tensor]) -> Tensor:
        """One (tokens, 2P) tensor per layer -> (tokens, tags) scores."""
        shares = torch.softmax(self.mix, 0)
        mixed = sum(share * layer for share, layer in zip(shares, layers, strict=True))
        return self.linear(mixed)


def probe(layers: Sequence[dict[str, Tensor]], tags: dict[str, Tensor]) -> float:
    """Train on train, keep the epoch that is best on dev, return test accuracy in percent."""
    torch.manual_seed(SEED)
    n_tags = 1 + max(int(numbers.max()) for numbers in tags.values())
    model = Probe(len(layers), layers[0]["train"].shape[1], n_tags)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, weight_decay=1e-5)
    best_dev, test_accuracy = -1.0, 0.0
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(tags["train"])).split(BATCH):
            scores = model([layer["train"][chosen] for layer in layers])
            loss = nn.functional.cross_entropy(scores, tags["train"][chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        dev = accuracy(model, layers, tags, "dev")
        if dev > best_dev:
            best_dev, test_accuracy = dev, accuracy(model, layers, tags, "test")
    return round(test_accuracy, 2)


@torch.no_grad()
def accuracy(
    model: Probe, layers: Sequence[dict[str, Tensor]], tags: dict[str, Tensor], part: str
) -> float:
    """Percent of the words of a part with the right tag."""
    guesses = model([layer[part] for layer in layers]).argmax(-1)
    return 100 * (guesses == tags[part]).float().mean().item()
