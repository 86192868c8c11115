"""A tagger on ELMo: frozen vectors that are computed once, then, if you like, fine-tuning.

    elmo-deploy export models/english-small -o bundle
    python examples/tagger.py train.conll test.conll --bundle bundle
    python examples/tagger.py train.conll test.conll --bundle bundle --fine-tune CHECKPOINT

Files hold a word, a tab and a tag per line, and blank lines between sentences. The tagger is a
BiLSTM with a CRF on word embeddings, a character convolution and the mixed layers of an ELMo, as
in the ELMo paper. Every tenth training sentence is held out to choose the epoch; the test file is
used once, at the end.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from crf import Crf
from tagger_data import (
    Batch,
    Inventory,
    Sentence,
    accuracy,
    entity_f1,
    in_batches,
    read_conll,
)
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from elmo_deploy import Elmo, Embedder
from elmo_deploy.model.layer_mix import LayerMix
from elmo_runtime.characters import char_ids

HELD_OUT_EVERY = 10
WORD, CHARACTER, FILTERS, HIDDEN = 64, 16, 32, 64
Measure = Callable[[Sequence[Sequence[str]], Sequence[Sequence[str]]], float]


@dataclass(frozen=True)
class Recipe:
    """How to train: Adam, whose rate falls linearly to a twentieth over the epochs."""

    rate: float = 6e-3
    batch: int = 32
    epochs: int = 12
    dropout: float = 0.3
    seed: int = 0


class Vectors(Protocol):
    """Where the layers of an ELMo come from."""

    n_layers: int
    width: int

    def __call__(self, batch: Batch) -> list[Tensor]:
        """One (batch, length, width) tensor per layer."""


class FrozenVectors:
    """The layers of every sentence, computed once by the runtime and kept in half precision."""

    def __init__(self, layers: Sequence[Tensor]) -> None:
        self.layers = layers  # per sentence (length, layers, width)
        self.n_layers, self.width = layers[0].shape[1:]

    @classmethod
    def embed(cls, embedder: Embedder, sentences: Sequence[Sentence]) -> FrozenVectors:
        """The vectors of the sentences, in order."""
        stream = embedder.embed_stream((s.words for s in sentences), outputs=["layers"])
        found = (np.swapaxes(out["layers"][0], 0, 1) for out in stream)
        return cls([torch.from_numpy(layers.astype(np.float16)) for layers in found])

    def of_layers(self, first: int, end: int) -> FrozenVectors:
        """Some of the layers alone."""
        return FrozenVectors([layers[:, first:end] for layers in self.layers])

    def __call__(self, batch: Batch) -> list[Tensor]:
        """As `Vectors`."""
        rows = pad_sequence([self.layers[n] for n in batch.numbers], batch_first=True)
        return list(rows.float().unbind(dim=2))


class FineTunedVectors(nn.Module):
    """The layers of an ELMo in PyTorch, whose weights train with the tagger."""

    def __init__(self, elmo: Elmo, sentences: Sequence[Sentence]) -> None:
        super().__init__()
        self.elmo = elmo
        self.n_layers = elmo.config.n_layers + 1
        self.width = 2 * elmo.config.projection_dim
        self._sentences = sentences

    def forward(self, batch: Batch) -> list[Tensor]:
        """As `Vectors`."""
        size = self.elmo.config.max_characters_per_token
        words = (self._sentences[number].words for number in batch.numbers)
        ids = [torch.from_numpy(char_ids(row, max_characters=size)) for row in words]
        return self.elmo(pad_sequence(ids, batch_first=True)).layers


class LockedDropout(nn.Dropout):
    """Drops the same features of all words of a sentence (Gal & Ghahramani 2016)."""

    def forward(self, x: Tensor) -> Tensor:
        """(batch, length, width) -> the same."""
        return x * super().forward(x.new_ones(len(x), 1, x.shape[2]))


class Tagger(nn.Module):
    """Words, characters and mixed ELMo layers -> BiLSTM -> CRF."""

    def __init__(self, inventory: Inventory, vectors: Vectors | None, recipe: Recipe) -> None:
        super().__init__()
        self.vectors = vectors
        width = WORD + FILTERS
        if vectors is not None:
            self.mix = LayerMix(vectors.n_layers)
            width += vectors.width
        self.words = nn.Embedding(len(inventory.words) + 2, WORD, padding_idx=0)
        self.characters = nn.Embedding(257, CHARACTER, padding_idx=0)
        self.convolution = nn.Conv1d(CHARACTER, FILTERS, 3, padding=1)
        self.lstm = nn.LSTM(width, HIDDEN, bidirectional=True, batch_first=True)
        self.linear = nn.Linear(2 * HIDDEN, len(inventory.tags))
        self.dropout = LockedDropout(recipe.dropout)
        self.crf = Crf(len(inventory.tags))

    def forward(self, batch: Batch) -> Tensor:
        """(batch, length, tags) emissions."""
        parts = [self.words(batch.words), self.convolve(batch.characters)]
        if self.vectors is not None:
            parts += self.mix(self.vectors(batch), batch.mask)
        packed = pack_padded_sequence(
            self.dropout(torch.cat(parts, dim=2)),
            batch.mask.sum(dim=1),
            batch_first=True,
            enforce_sorted=False,
        )
        hidden, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        return self.linear(self.dropout(hidden))

    def convolve(self, characters: Tensor) -> Tensor:
        """(batch, length, bytes) -> (batch, length, FILTERS)."""
        x = self.characters(characters.flatten(0, 1)).transpose(1, 2)
        return self.convolution(x).relu().amax(dim=2).unflatten(0, characters.shape[:2])


def train(
    tagger: Tagger,
    inventory: Inventory,
    sentences: Sequence[Sentence],
    measure: Measure,
    recipe: Recipe,
) -> list[float]:
    """Train, keep the best weights, and return the held-out scores: before, and by epoch."""
    shuffle = torch.Generator().manual_seed(recipe.seed)
    kept, held_out = split(len(sentences))
    optimizer = torch.optim.Adam([p for p in tagger.parameters() if p.requires_grad], recipe.rate)
    rates = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, max(recipe.epochs - 1, 1))
    scores = [score(tagger, inventory, sentences, held_out, measure)]
    best = copy.deepcopy(tagger.state_dict())
    for epoch in range(1, recipe.epochs + 1):
        tagger.train()
        for numbers in in_batches(sentences, kept, recipe.batch, shuffle):
            batch = inventory.batch(sentences, numbers)
            optimizer.zero_grad()
            tagger.crf.loss(tagger(batch), batch.tags, batch.mask).backward()
            nn.utils.clip_grad_norm_(tagger.parameters(), 5.0)
            optimizer.step()
        scores.append(score(tagger, inventory, sentences, held_out, measure))
        if scores[-1] == max(scores):
            best = copy.deepcopy(tagger.state_dict())
        print(f"epoch {epoch}: {scores[-1]:.2f} on held-out sentences", file=sys.stderr, flush=True)
        rates.step()
    tagger.load_state_dict(best)
    return scores


def split(n_sentences: int) -> tuple[list[int], list[int]]:
    """Numbers of the sentences to train on, and of those held out to choose the epoch."""
    numbers = range(n_sentences)
    held_out = [n for n in numbers if n % HELD_OUT_EVERY == 0]
    return [n for n in numbers if n % HELD_OUT_EVERY], held_out


def score(
    tagger: Tagger,
    inventory: Inventory,
    sentences: Sequence[Sentence],
    numbers: Sequence[int],
    measure: Measure,
) -> float:
    """The measure, in percent, over the sentences of these numbers."""
    truth, guesses = [], []
    for batch_numbers, tags in predict(tagger, inventory, sentences, numbers):
        truth += [sentences[number].tags for number in batch_numbers]
        guesses += tags
    return measure(truth, guesses)


@torch.no_grad()
def predict(
    tagger: Tagger, inventory: Inventory, sentences: Sequence[Sentence], numbers: Sequence[int]
) -> Iterator[tuple[list[int], list[list[str]]]]:
    """Numbers of sentences and their tags, batch by batch."""
    tagger.eval()
    for chosen in in_batches(sentences, numbers, 64):
        batch = inventory.batch(sentences, chosen)
        paths = tagger.crf.decode(tagger(batch), batch.mask)
        yield chosen, [[inventory.tags[tag] for tag in path] for path in paths]


def main() -> None:
    options = parse()
    training, tests = read_conll(options.training), read_conll(options.test)
    sentences = [*training, *tests]
    inventory = Inventory.of(training)
    measure = entity_f1 if any(tag.startswith("B-") for tag in inventory.tags) else accuracy
    recipe = Recipe(seed=options.seed)
    with Embedder.load(options.bundle) as embedder:
        vectors = FrozenVectors.embed(embedder, sentences)
    torch.manual_seed(recipe.seed)
    tagger = Tagger(inventory, vectors, recipe)
    train(tagger, inventory, training, measure, recipe)
    tested = range(len(training), len(sentences))
    print(f"frozen vectors: {score(tagger, inventory, sentences, tested, measure):.2f}")
    if options.fine_tune:
        elmo = Elmo.from_checkpoint(options.fine_tune, requires_grad=True)
        tagger.vectors = FineTunedVectors(elmo, sentences)
        slow = replace(recipe, rate=recipe.rate / 10, epochs=options.epochs)
        train(tagger, inventory, training, measure, slow)
        print(f"fine-tuned: {score(tagger, inventory, sentences, tested, measure):.2f}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("training", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--bundle", type=Path, required=True, help="gives the frozen vectors")
    parser.add_argument("--fine-tune", type=Path, help="the checkpoint of the bundle")
    parser.add_argument("--epochs", type=int, default=2, help="of fine-tuning")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
