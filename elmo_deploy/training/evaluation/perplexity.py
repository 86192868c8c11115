"""A checkpoint and held-out text -> perplexity; a checkpoint and sentences -> log-probabilities."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from elmo_deploy.training.data.batches import Lexicon
from elmo_deploy.training.data.corpus import PackedRows, Window
from elmo_deploy.training.data.coverage import warn_of_unknown
from elmo_deploy.training.data.shards import Shard, read_all_sentences
from elmo_deploy.training.data.vocabulary import BEGIN, END, Vocabulary
from elmo_deploy.training.devices import choose_device
from elmo_deploy.training.language_model import LanguageModel
from elmo_export.checkpoint import SOFTMAX, Checkpoint
from elmo_runtime.errors import CheckpointError, InputError

STEPS_AT_ONCE = 32  # steps computed together; the carried states make this exact
LOGITS_AT_ONCE = 2**24  # numbers of the full softmax in memory
SORTED_AT_ONCE, SCORED_AT_ONCE = 4096, 64  # sentences sorted by length, batch size

Item = TypeVar("Item")


@dataclass(frozen=True)
class Evaluation:
    """Mean cross-entropy of each direction in nats per token, over `n_tokens` of each."""

    forward_loss: float
    backward_loss: float
    n_tokens: int
    unknown_share: float = 0.0  # share of <UNK> among the words to predict

    @property
    def forward_perplexity(self) -> float:
        """The exp of the forward loss."""
        return math.exp(self.forward_loss)

    @property
    def backward_perplexity(self) -> float:
        """The exp of the backward loss."""
        return math.exp(self.backward_loss)

    @property
    def perplexity(self) -> float:
        """The exp of the mean of both losses, as in bilm-tf and in the paper."""
        return math.exp((self.forward_loss + self.backward_loss) / 2)


@dataclass(frozen=True)
class SentenceScore:
    """Natural log-probabilities of a sentence and its last boundary token, per direction."""

    n_tokens: int  # without the boundary token
    forward: float  # of the tokens and </S>
    backward: float  # of the tokens from the last to the first and <S>
    n_unknown: int = 0  # tokens scored as <UNK>


def evaluate(
    checkpoint: Checkpoint, *, shards: Sequence[Shard], batch_size: int = 256, device: str = "auto"
) -> Evaluation:
    """The perplexity of held-out text as bilm-tf's `run_test.py` defines it.

    The files are read once and in order, in `batch_size` rows without gaps, with the full softmax,
    carried states and no dropout. The end of the text, where some rows have no next word, does not
    count, so the result depends slightly on `batch_size`.
    """
    evaluator = Evaluator.load(checkpoint, choose_device(device))
    result = evaluator.perplexity(shards, batch_size)
    warn_of_unknown(result.unknown_share)
    return result


def score(
    checkpoint: Checkpoint, sentences: Iterable[Sequence[str]], *, device: str = "auto"
) -> Iterator[SentenceScore]:
    """Log-probabilities of each sentence, in order.

    Each starts from the zero state, so that its score does not depend on the other sentences.
    """
    n_tokens = n_unknown = 0
    for scored in Evaluator.load(checkpoint, choose_device(device)).scores(sentences):
        n_tokens, n_unknown = n_tokens + scored.n_tokens, n_unknown + scored.n_unknown
        yield scored
    warn_of_unknown(n_unknown / max(n_tokens, 1))


class ReadSentences(NamedTuple):
    """A batch of sentences that was read step by step in both directions.

    A sentence of n tokens has n + 1 steps: forward step i predicts token i, and the last one
    </S>; backward step i predicts token n - 1 - i, and the last one <S>.
    """

    vectors: Tensor  # (2, rows, steps, P)
    targets: Tensor  # (2, rows, steps)
    mask: Tensor  # (rows, steps): False after the end of a sentence


class Evaluator:
    """A language model in evaluation mode, with the words of its softmax."""

    def __init__(self, model: LanguageModel, lexicon: Lexicon) -> None:
        self.model, self.lexicon = model, lexicon
        self.device = model.softmax.weight.device

    @classmethod
    def load(cls, checkpoint: Checkpoint, device: torch.device) -> Evaluator:
        """The model of a checkpoint. Raises CheckpointError if it has no softmax."""
        if checkpoint.vocabulary is None or any(n not in checkpoint.tensors for n in SOFTMAX):
            raise CheckpointError(
                "the checkpoint has no softmax over a vocabulary, so it predicts no words",
                hint="train one by: elmo-deploy train --from CHECKPOINT",
            )
        vocabulary = Vocabulary(checkpoint.vocabulary, source="the checkpoint's vocab.txt")
        model = LanguageModel(checkpoint.config, len(vocabulary))
        model.load_checkpoint(checkpoint, with_softmax=True)
        return cls(model.to(device).eval(), Lexicon(vocabulary, checkpoint.config))

    def perplexity(self, shards: Sequence[Shard], n_rows: int) -> Evaluation:
        """The perplexity of the files as `evaluate` defines it."""
        streams = [_single_steps(shards, n_rows, backward=backward) for backward in (False, True)]
        state = self.model.zero_state(n_rows)
        losses, words = (torch.zeros(2, dtype=torch.float64) for _ in range(2))
        n_steps = 0
        for steps in _batched(zip(*streams, strict=True), STEPS_AT_ONCE):
            windows = [_joined([step[direction] for step in steps]) for direction in (0, 1)]
            batch = self.lexicon.batch(*windows).to(self.device)
            words += self.lexicon.count_unknown(batch.targets).cpu()
            with torch.inference_mode():
                hidden = self.model(batch.words, batch.positions, state)
                state = hidden.state
                losses += self.losses(hidden.vectors, batch.targets).double().sum(dim=(1, 2)).cpu()
            n_steps += len(steps)
        if n_steps == 0:
            raise InputError(f"the text does not fill {n_rows} rows", hint="lower the batch size")
        n_tokens = n_steps * n_rows
        forward_loss, backward_loss = (losses / n_tokens).tolist()
        unknown, n_words = words.tolist()
        return Evaluation(forward_loss, backward_loss, n_tokens, unknown / max(n_words, 1))

    def scores(self, sentences: Iterable[Sequence[str]]) -> Iterator[SentenceScore]:
        """The score of each sentence from the zero state, in order."""
        return self.by_length(sentences, self.score)

    def by_length(
        self,
        sentences: Iterable[Sequence[str]],
        compute: Callable[[Sequence[Sequence[str]]], Sequence[Item]],
    ) -> Iterator[Item]:
        """The results of `compute` for batches of sentences of similar length, in order."""
        for chunk in _batched(sentences, SORTED_AT_ONCE):
            order = sorted(range(len(chunk)), key=lambda index: len(chunk[index]))
            results: dict[int, Item] = {}
            for places in _batched(order, SCORED_AT_ONCE):
                batch = compute([chunk[place] for place in places])
                results.update(zip(places, batch, strict=True))
            yield from (results[index] for index in range(len(chunk)))

    def losses(self, vectors: Tensor, targets: Tensor) -> Tensor:
        """Top vectors (2, rows, steps, P), ids (2, rows, steps) -> cross-entropy, as the ids."""
        softmax = self.model.softmax
        at_once = max(1, LOGITS_AT_ONCE // len(softmax.bias))
        vectors, ids = vectors.flatten(0, 2), targets.flatten()
        pieces = (slice(first, first + at_once) for first in range(0, len(ids), at_once))
        return torch.cat([softmax(vectors[p], ids[p]) for p in pieces]).view_as(targets)

    @torch.inference_mode()
    def read(self, sentences: Sequence[Sequence[str]]) -> ReadSentences:
        """Read one batch of sentences in both directions, each from the zero state."""
        length = max(map(len, sentences)) + 1
        forward = [_padded([BEGIN, *tokens, END], length + 1) for tokens in sentences]
        backward = [_padded([END, *reversed(tokens), BEGIN], length + 1) for tokens in sentences]
        batch = self.lexicon.batch(_window(forward), _window(backward)).to(self.device)
        lengths = torch.tensor([len(tokens) + 1 for tokens in sentences], device=self.device)
        mask = torch.arange(length, device=self.device) < lengths[:, None]
        state = self.model.zero_state(len(sentences))
        hidden = self.model(batch.words, batch.positions, state, mask)
        return ReadSentences(hidden.vectors, batch.targets, mask)

    @torch.inference_mode()
    def score(self, sentences: Sequence[Sequence[str]]) -> list[SentenceScore]:
        """The scores of one batch of sentences."""
        read = self.read(sentences)
        losses = self.losses(read.vectors, read.targets).double() * read.mask
        unknown = ((read.targets[0] == self.lexicon.unknown) & read.mask).sum(dim=1).tolist()
        return [
            SentenceScore(len(tokens), -forward_loss, -backward_loss, n_unknown)
            for tokens, (forward_loss, backward_loss), n_unknown in zip(
                sentences, losses.sum(dim=2).t().tolist(), unknown, strict=True
            )
        ]


def _single_steps(shards: Sequence[Shard], n_rows: int, *, backward: bool) -> Iterator[Window]:
    rows = PackedRows(read_all_sentences(shards), n_rows=n_rows, backward=backward)
    while (step := rows.window(1)) is not None:
        yield step


def _joined(steps: Sequence[Window]) -> Window:
    """Consecutive windows as one."""
    return Window(
        [list(chain(*rows)) for rows in zip(*(step.inputs for step in steps), strict=True)],
        [list(chain(*rows)) for rows in zip(*(step.targets for step in steps), strict=True)],
    )


def _batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` items in order; the last may be shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _padded(words: list[str], length: int) -> list[str]:
    return words + [END] * (length - len(words))  # any word: the mask hides it


def _window(rows: Sequence[list[str]]) -> Window:
    return Window([row[:-1] for row in rows], [row[1:] for row in rows])
