"""Windows of words -> tensors: the distinct words as character ids, and their positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from elmo_deploy.training.data.corpus import Window
from elmo_deploy.training.data.vocabulary import BEGIN, END, Vocabulary
from elmo_runtime import characters
from elmo_runtime.config import ElmoConfig


@dataclass(frozen=True)
class TrainingBatch:
    """A window of both directions. Each distinct word is in `words` once."""

    words: tuple[Tensor, ...]  # groups of (n, width) shifted character ids, short words first
    positions: Tensor  # (2, rows, steps): forward and backward, index into all of `words`
    targets: Tensor  # (2, rows, steps): id of the word that follows

    def to(self, device: torch.device) -> TrainingBatch:
        """The same batch on another device."""
        return replace(
            self,
            words=tuple(group.to(device, non_blocking=True) for group in self.words),
            positions=self.positions.to(device, non_blocking=True),
            targets=self.targets.to(device, non_blocking=True),
        )


class Lexicon:
    """The character ids of all words of the vocabulary, computed once."""

    def __init__(self, vocabulary: Vocabulary, config: ElmoConfig) -> None:
        self.words = vocabulary.words
        self._ids = vocabulary.ids
        self.unknown = vocabulary.unknown
        self._boundary_ids = (vocabulary.ids[BEGIN], vocabulary.ids[END])
        self._max_characters = config.max_characters_per_token
        self._widest_filter = max(width for width, _ in config.filters)
        self._rows = self._char_ids(vocabulary.words).astype(np.int16)

    def batch(self, forward: Window, backward: Window) -> TrainingBatch:
        """Both directions of a window as tensors."""
        words, positions = self.distinct([*forward.inputs, *backward.inputs])
        shape = (2, len(forward.inputs), -1)
        targets = self.target_ids(chain.from_iterable([*forward.targets, *backward.targets]))
        return TrainingBatch(words, positions.reshape(shape), targets.reshape(shape))

    def distinct(self, rows: Sequence[Sequence[str]]) -> tuple[tuple[Tensor, ...], Tensor]:
        """Rows of words -> groups of distinct words as character ids, positions of all words.

        A group is as wide as its longest word needs; cutting columns of padding is exact.
        """
        index_of: dict[str, int] = {}
        index = [index_of.setdefault(word, len(index_of)) for row in rows for word in row]
        char_ids = self._lookup(list(index_of))
        widths = self._needed_widths(char_ids)
        order = np.argsort(widths, kind="stable")
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        cuts = np.flatnonzero(np.diff(widths[order])) + 1
        groups = tuple(
            torch.from_numpy(char_ids[group, : widths[group[0]]].astype(np.int64))
            for group in np.split(order, cuts)
        )
        return groups, torch.from_numpy(rank[index])

    def target_ids(self, words: Sequence[str] | chain[str]) -> Tensor:
        """The ids of words; words outside the vocabulary have the id of <UNK>."""
        get, unknown = self._ids.get, self.unknown
        return torch.tensor([get(word, unknown) for word in words])

    def count_unknown(self, targets: Tensor) -> Tensor:
        """Ids of any shape -> (2,): the number of <UNK>, and of words without boundary tokens."""
        begin, end = self._boundary_ids
        words = (targets != begin) & (targets != end)
        return torch.stack([(targets == self.unknown).sum(), words.sum()]).double()

    def _lookup(self, words: Sequence[str]) -> NDArray[np.int16]:
        ids = np.array([self._ids.get(word, -1) for word in words])
        char_ids: NDArray[np.int16] = self._rows[ids]
        outside = [index for index, word in enumerate(words) if word not in self._ids]
        if outside:
            char_ids[outside] = self._char_ids([words[index] for index in outside])
        return char_ids

    def _char_ids(self, words: Sequence[str]) -> NDArray[np.int32]:
        return characters.char_ids(words, max_characters=self._max_characters)

    def _needed_widths(self, char_ids: NDArray[np.int16]) -> NDArray[np.int64]:
        """The columns of each word, so that each filter has one window that is only padding."""
        used = (char_ids != characters.PADDING + 1).sum(axis=1)
        rounded = -(-(used + self._widest_filter) // 4) * 4
        widths: NDArray[np.int64] = np.minimum(rounded, self._max_characters)
        return widths
