"""How often a nearest neighbor has the same sense without a trained ELMo: the controls."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from senses import Example, Vectors
from torch.nn.utils.rnn import pad_sequence

from elmo_deploy import Elmo
from elmo_runtime.characters import char_ids
from elmo_runtime.config import ElmoConfig

DRAWS = 3  # of random weights


def same_sense(examples: Sequence[Example], vectors: Vectors) -> float:
    """Count the examples whose nearest neighbor with the same word has the same sense.

    The mean vector of each word is subtracted first. Equally near neighbors count by the share of
    them that has the same sense.
    """
    total = 0.0
    for word in dict.fromkeys(example.word for example in examples):
        rows = [index for index, example in enumerate(examples) if example.word == word]
        senses = np.array([examples[index].sense for index in rows])
        nearest = _nearest(vectors[rows])
        total += float(((senses == senses[:, None]) * nearest).sum())
    return total


def _nearest(vectors: Vectors) -> Vectors:
    """(n, dim) -> (n, n): the share of each other row in the nearest ones, by the cosine."""
    centered = vectors - vectors.mean(axis=0)
    centered = centered / np.maximum(np.linalg.norm(centered, axis=1, keepdims=True), 1e-12)
    cosines = centered @ centered.T
    np.fill_diagonal(cosines, -2)
    ties = cosines >= cosines.max(axis=1, keepdims=True) - 1e-6
    return np.asarray(ties / ties.sum(axis=1, keepdims=True), np.float32)


def controls(examples: Sequence[Example], trained: Elmo) -> dict[str, float]:
    """The count of `same_sense` for each control."""
    draws = [Elmo(trained.config, seed=seed) for seed in range(DRAWS)]
    counts = [same_sense(examples, mean_of_layers(examples, elmo)) for elmo in draws]
    return {
        "chance": chance(examples),
        "layer 0, which sees no context": same_sense(examples, layers(examples, trained)[0]),
        "random weights, mean of 3 draws": sum(counts) / DRAWS,
        "bag of words of the sentence": same_sense(examples, bags_of_words(examples)),
        "two neighboring words, one-hot": same_sense(examples, two_neighbors(examples)),
    }


def chance(examples: Sequence[Example]) -> float:
    """The expected count of a random neighbor with the same word."""
    constant = np.zeros((len(examples), 1), np.float32)
    return same_sense(examples, constant)


@torch.no_grad()
def layers(examples: Sequence[Example], elmo: Elmo) -> list[Vectors]:
    """Per layer (examples, 2P): the vectors of each example's word."""
    ids = pad_sequence(
        [torch.from_numpy(_char_ids(example, elmo.config)) for example in examples],
        batch_first=True,
    )
    rows, positions = range(len(examples)), [example.position for example in examples]
    return [layer[rows, positions].numpy() for layer in elmo.eval()(ids).layers]


def mean_of_layers(examples: Sequence[Example], elmo: Elmo) -> Vectors:
    """(examples, 2P): what `elmo` is before any task has trained the mix."""
    return np.asarray(np.mean(layers(examples, elmo), axis=0), np.float32)


def _char_ids(example: Example, config: ElmoConfig) -> np.ndarray:
    return char_ids(example.tokens, max_characters=config.max_characters_per_token)


def bags_of_words(examples: Sequence[Example]) -> Vectors:
    """(examples, words): the words of each sentence without their order."""
    return _one_hot([[token.lower() for token in example.tokens] for example in examples])


def two_neighbors(examples: Sequence[Example]) -> Vectors:
    """(examples, 2 x words): the word before and the word after, each one-hot."""
    rows = []
    for example in examples:
        tokens = ["<start>", *(token.lower() for token in example.tokens), "<end>"]
        place = example.position + 1
        rows.append([f"-1 {tokens[place - 1]}", f"+1 {tokens[place + 1]}"])
    return _one_hot(rows)


def _one_hot(rows: Sequence[Sequence[str]]) -> Vectors:
    columns = {name: number for number, name in enumerate(sorted({n for r in rows for n in r}))}
    vectors = np.zeros((len(rows), len(columns)), np.float32)
    for number, row in enumerate(rows):
        vectors[number, [columns[name] for name in row]] = 1
    return vectors
