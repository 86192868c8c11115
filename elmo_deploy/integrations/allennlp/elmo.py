"""AllenNLP's `Elmo`, `ElmoTokenEmbedder` and `batch_to_ids`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from elmo_deploy.importers.bilm_hdf5 import import_hdf5
from elmo_deploy.importers.download import download, is_url
from elmo_deploy.integrations.allennlp.bilm import ElmoBiLm, remove_sentence_boundaries
from elmo_deploy.integrations.allennlp.scalar_mix import ScalarMix
from elmo_export.checkpoint import Checkpoint
from elmo_runtime.characters import char_ids
from elmo_runtime.errors import InputError

MAX_CHARACTERS = 50


def batch_to_ids(batch: Sequence[Sequence[str]]) -> Tensor:
    """Tokenized sentences -> character ids (batch, length, 50), int64, 0 past each sentence."""
    length = max(map(len, batch), default=0)
    ids = np.zeros((len(batch), length, MAX_CHARACTERS), np.int64)
    for row, sentence in enumerate(batch):
        ids[row, : len(sentence)] = char_ids(sentence, max_characters=MAX_CHARACTERS)
    return torch.from_numpy(ids)


class Elmo(nn.Module):
    """AllenNLP's `Elmo`: representations of the options and weights, mixed by ScalarMix.

    Args:
        options_file: options.json or its URL.
        weight_file: weights.hdf5 or its URL.
        num_output_representations: The number of layer mixes.
        requires_grad: Whether the biLM is fine-tuned.
        do_layer_norm: Whether each mix normalizes its layers over the batch.
        dropout: The dropout probability of the output vectors, in training only.
        vocab_to_cache: Words whose token vectors are computed once; `word_inputs` are positions
            in this list, and 0 is padding.
        keep_sentence_boundaries: Whether the outputs contain <S> and </S>.
        scalar_mix_parameters: Weights of every mix before the softmax; they and gamma are frozen.
        module: A biLM to share with another `Elmo`, in place of the two files.
        stateful: Whether row b continues row b of the previous call, as in AllenNLP.
    """

    def __init__(
        self,
        options_file: str | Path | None = None,
        weight_file: str | Path | None = None,
        num_output_representations: int = 1,
        requires_grad: bool = False,
        do_layer_norm: bool = False,
        dropout: float = 0.5,
        vocab_to_cache: Sequence[str] | None = None,
        keep_sentence_boundaries: bool = False,
        scalar_mix_parameters: Sequence[float] | None = None,
        module: ElmoBiLm | None = None,
        *,
        stateful: bool = True,
    ) -> None:
        super().__init__()
        if (module is None) == (options_file is None or weight_file is None):
            raise InputError("pass options_file and weight_file, or module, not both")
        self._elmo_lstm = module or ElmoBiLm(
            read_files(str(options_file), str(weight_file)),
            requires_grad=requires_grad,
            vocab_to_cache=vocab_to_cache,
            stateful=stateful,
        )
        self._has_cached_vocab = vocab_to_cache is not None
        self._keep_sentence_boundaries = keep_sentence_boundaries
        self._dropout = nn.Dropout(dropout)
        self._scalar_mixes = []
        for number in range(num_output_representations):
            mix = ScalarMix(
                self._elmo_lstm.config.n_layers + 1,
                do_layer_norm,
                scalar_mix_parameters,
                trainable=scalar_mix_parameters is None,
            )
            self.add_module(f"scalar_mix_{number}", mix)
            self._scalar_mixes.append(mix)

    def get_output_dim(self) -> int:
        """2P, the width of a representation."""
        return self._elmo_lstm.config.output_dim

    def forward(self, inputs: Tensor, word_inputs: Tensor | None = None) -> dict[str, Any]:
        """Ids (batch, ..., length, 50) and word ids (batch, ..., length) if words are cached.

        Returns `elmo_representations`, one (batch, ..., length, 2P) per mix, and `mask`
        (batch, ..., length), bool.
        """
        if word_inputs is not None and not self._has_cached_vocab:
            warnings.warn(
                "word_inputs are given, but no vocabulary is cached", UserWarning, stacklevel=2
            )
            word_inputs = None
        rows = inputs.shape[:-2]
        words = None if word_inputs is None else word_inputs.flatten(end_dim=-2)
        layers, mask = self._elmo_lstm(inputs.flatten(end_dim=len(rows) - 1), words)
        representations = []
        for mix in self._scalar_mixes:
            vectors, kept = mix(layers, mask), mask
            if not self._keep_sentence_boundaries:
                vectors, kept = remove_sentence_boundaries(vectors, mask)
            representations.append(self._dropout(vectors).unflatten(0, rows))
        return {"elmo_representations": representations, "mask": kept.unflatten(0, rows)}


class ElmoTokenEmbedder(nn.Module):
    """AllenNLP's `ElmoTokenEmbedder`: one mix, and optionally a projection of the outputs."""

    def __init__(
        self,
        options_file: str | Path,
        weight_file: str | Path,
        do_layer_norm: bool = False,
        dropout: float = 0.5,
        requires_grad: bool = False,
        projection_dim: int | None = None,
        vocab_to_cache: Sequence[str] | None = None,
        scalar_mix_parameters: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self._elmo = Elmo(
            options_file,
            weight_file,
            1,
            do_layer_norm=do_layer_norm,
            dropout=dropout,
            requires_grad=requires_grad,
            vocab_to_cache=vocab_to_cache,
            scalar_mix_parameters=scalar_mix_parameters,
        )
        width = self._elmo.get_output_dim()
        self._projection = nn.Linear(width, projection_dim) if projection_dim else None
        self.output_dim = projection_dim or width

    def get_output_dim(self) -> int:
        """The width of a vector."""
        return self.output_dim

    def forward(self, elmo_tokens: Tensor, word_inputs: Tensor | None = None) -> Tensor:
        """Ids (batch, ..., length, 50) -> vectors (batch, ..., length, width)."""
        vectors: Tensor = self._elmo(elmo_tokens, word_inputs)["elmo_representations"][0]
        return vectors if self._projection is None else self._projection(vectors)


def read_files(options: str, weights: str) -> Checkpoint:
    """The checkpoint of two paths or URLs."""
    paths = [download(file) if is_url(file) else Path(file) for file in (options, weights)]
    return import_hdf5(*paths)
