"""The biLM as a language model: words -> vectors that predict the words that follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from elmo_deploy.fast.both_directions import run_both
from elmo_deploy.fast.convolution import convolve_at_once
from elmo_deploy.fast.lstm import FastLstm
from elmo_deploy.model.bilm import BiLm
from elmo_deploy.model.char_cnn import CharCnn
from elmo_deploy.model.lstm import LstmState, ProjectedLstm
from elmo_deploy.training.softmax import Softmax
from elmo_export.checkpoint import SOFTMAX, Checkpoint
from elmo_runtime.config import ElmoConfig


class Hidden(NamedTuple):
    """Top outputs (2, rows, steps, P), forward and backward, and the final state."""

    vectors: Tensor
    state: LstmState  # (layers, 2, rows, P) and (layers, 2, rows, C)


class LanguageModel(nn.Module):
    """Character CNN, two LSTM stacks and a softmax; tensors are named as in a checkpoint.

    `dropout` is the probability for the inputs of every LSTM layer and for the top outputs.
    fast=False computes the definitions of `elmo_deploy.model` instead of `elmo_deploy.fast`.
    """

    def __init__(
        self,
        config: ElmoConfig,
        vocabulary_size: int,
        *,
        dropout: float = 0.0,
        fast: bool = True,
    ) -> None:
        super().__init__()
        self.config, self.fast = config, fast
        self.char_cnn = CharCnn(config)
        self.bilm = BiLm(config, input_dropout=dropout, lstm=FastLstm if fast else ProjectedLstm)
        self.softmax = Softmax(vocabulary_size, config.projection_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        words: Sequence[Tensor],
        positions: Tensor,
        state: LstmState,
        mask: Tensor | None = None,
    ) -> Hidden:
        """Groups of distinct words, positions (2, rows, steps) into them -> Hidden.

        Where mask (rows, steps) is False there is no word in either direction.
        """
        tokens = F.embedding(positions, self.word_vectors(words))
        if mask is not None:
            tokens = tokens * mask.unsqueeze(-1)
        run_stacks = partial(run_both, self.bilm) if self.fast else self.bilm.run_stacks
        outputs, final = run_stacks(tokens, state, mask)
        return Hidden(self.dropout(outputs[-1]), final)

    def word_vectors(self, words: Sequence[Tensor]) -> Tensor:
        """Groups of (n, width) character ids -> (all n, P), in the order of the groups."""
        cnn, full = self.char_cnn, self.config.max_characters_per_token
        # Only words of the full width may lack the padding that the fast form needs; they are last.
        padded = [group for group in words if self.fast and group.shape[1] < full]
        features = [convolve_at_once(cnn, padded)] if padded else []
        features += [cnn.convolve(cnn.embed(group)) for group in words[len(padded) :]]
        return cnn.project(torch.cat(features))

    def zero_state(self, n_rows: int) -> LstmState:
        """The state of rows that have read nothing."""
        return self.bilm.zero_state(self.softmax.weight.new_zeros(n_rows))

    def reset_parameters(self, generator: torch.Generator) -> None:
        """The paper's initialization; the generator decides all weights."""
        for part in self.modules():
            if isinstance(part, CharCnn | ProjectedLstm | Softmax):
                part.reset_parameters(generator)

    @torch.no_grad()
    def load_checkpoint(self, checkpoint: Checkpoint, *, with_softmax: bool) -> bool:
        """Copy the weights; return whether those of the softmax were included."""
        takes_softmax = with_softmax and all(name in checkpoint.tensors for name in SOFTMAX)
        for name, parameter in self.named_parameters():
            if takes_softmax or name not in SOFTMAX:
                parameter.copy_(torch.tensor(checkpoint.tensors[name]))
        return takes_softmax

    def to_checkpoint(
        self, vocabulary: Sequence[str], *, provenance: Mapping[str, str]
    ) -> Checkpoint:
        """The current weights with softmax and vocabulary."""
        return Checkpoint(
            config=self.config,
            tensors={name: _array(p) for name, p in self.named_parameters()},
            vocabulary=tuple(vocabulary),
            provenance=provenance,
        )


def detached(state: LstmState) -> LstmState:
    """The same state without its graph: no gradient crosses the edge of a window."""
    return LstmState(state.h.detach(), state.c.detach())


def _array(parameter: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = parameter.detach().float().cpu().numpy().copy()
    return array
