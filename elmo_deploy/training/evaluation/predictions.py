"""Sentences -> the log-probability of each token, and the words that the model expects there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from elmo_deploy.training.data.vocabulary import BEGIN, END
from elmo_deploy.training.devices import choose_device
from elmo_deploy.training.evaluation.perplexity import LOGITS_AT_ONCE, Evaluator
from elmo_export.checkpoint import Checkpoint


@dataclass(frozen=True)
class TokenScore:
    """Natural log-probabilities of a token, given the tokens before it and those after it.

    <S> has no forward score and </S> no backward one. A token outside the vocabulary has the score
    of <UNK>.
    """

    token: str
    known: bool
    forward: float | None
    backward: float | None


@dataclass(frozen=True)
class Prediction:
    """A word of the vocabulary and its probability."""

    word: str
    probability: float


@dataclass(frozen=True)
class Substitutes:
    """The most probable words at the position of a token, the most probable one first.

    `both` multiplies the probabilities of the two directions and normalizes the products.
    """

    token: str
    forward: tuple[Prediction, ...]
    backward: tuple[Prediction, ...]
    both: tuple[Prediction, ...]


def score_tokens(
    checkpoint: Checkpoint, sentences: Iterable[Sequence[str]], *, device: str = "auto"
) -> Iterator[list[TokenScore]]:
    """The scores of <S>, the tokens and </S> of each sentence; they add up to `score`.

    Each sentence starts from the zero state. Raises CheckpointError without a softmax.
    """
    evaluator = Evaluator.load(checkpoint, choose_device(device))
    return evaluator.by_length(sentences, partial(_score_tokens, evaluator))


def substitutes(
    checkpoint: Checkpoint,
    sentences: Iterable[Sequence[str]],
    *,
    n: int = 5,
    device: str = "auto",
) -> Iterator[list[Substitutes]]:
    """The `n` most probable words for each token of each sentence, by the full softmax.

    Each sentence starts from the zero state. Raises CheckpointError without a softmax.
    """
    evaluator = Evaluator.load(checkpoint, choose_device(device))
    return evaluator.by_length(sentences, partial(_substitutes, evaluator, n))


@torch.inference_mode()
def _score_tokens(
    evaluator: Evaluator, sentences: Sequence[Sequence[str]]
) -> list[list[TokenScore]]:
    read = evaluator.read(sentences)
    log_probabilities = (-evaluator.losses(read.vectors, read.targets)).tolist()
    return [
        _token_scores(evaluator, tokens, forward[: len(tokens) + 1], backward[: len(tokens) + 1])
        for tokens, forward, backward in zip(sentences, *log_probabilities, strict=True)
    ]


def _token_scores(
    evaluator: Evaluator, tokens: Sequence[str], forward: list[float], backward: list[float]
) -> list[TokenScore]:
    marked = [BEGIN, *tokens, END]
    ids = evaluator.lexicon.target_ids(marked).tolist()
    return [
        TokenScore(token, id != evaluator.lexicon.unknown, before, after)
        for token, id, before, after in zip(
            marked, ids, [None, *forward], [*reversed(backward), None], strict=True
        )
    ]


@torch.inference_mode()
def _substitutes(
    evaluator: Evaluator, n: int, sentences: Sequence[Sequence[str]]
) -> list[list[Substitutes]]:
    vectors = evaluator.read(sentences).vectors
    # (tokens of all sentences, P): the vectors that predict each token, forward and backward.
    forward = torch.cat([row[: len(s)] for row, s in zip(vectors[0], sentences, strict=True)])
    backward = torch.cat(
        [row[: len(s)].flip(0) for row, s in zip(vectors[1], sentences, strict=True)]
    )
    predicted = iter(_predictions(evaluator, n, forward, backward))
    return [[Substitutes(token, *next(predicted)) for token in tokens] for tokens in sentences]


def _predictions(
    evaluator: Evaluator, n: int, forward: Tensor, backward: Tensor
) -> Iterator[tuple[tuple[Prediction, ...], ...]]:
    """Two times (tokens, P) -> for each token the predictions forward, backward and of both."""
    softmax, words = evaluator.model.softmax, evaluator.lexicon.words
    at_once = max(1, LOGITS_AT_ONCE // (3 * len(words)))
    for first in range(0, len(forward), at_once):
        piece = slice(first, first + at_once)
        sides = [softmax.logits(side[piece]).log_softmax(dim=1) for side in (forward, backward)]
        distributions = torch.stack([*sides, (sides[0] + sides[1]).log_softmax(dim=1)])
        top = distributions.topk(min(n, len(words)), dim=2)  # (3, tokens, n)
        ids, probabilities = top.indices.transpose(0, 1), top.values.exp().transpose(0, 1)
        for id_rows, rows in zip(ids.tolist(), probabilities.tolist(), strict=True):
            yield tuple(
                tuple(Prediction(words[i], p) for i, p in zip(*pair, strict=True))
                for pair in zip(id_rows, rows, strict=True)
            )
