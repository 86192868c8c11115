"""The biLM of AllenNLP's `Elmo`: carried states, cached words and its names in a state dict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from elmo_deploy.importers.allennlp_layout import CACHED_WORDS, entries
from elmo_deploy.model.bilm import mask_of
from elmo_deploy.model.elmo import Elmo, add_sentence_marks, lengths_of
from elmo_deploy.model.lstm import LstmState
from elmo_export.checkpoint import Checkpoint
from elmo_runtime.characters import char_ids

PREFIX = "_elmo_lstm."  # this module's name in `Elmo`, which begins its names in a state dict


class Activations(NamedTuple):
    """Layers of (batch, length + 2, 2P) and the mask (batch, length + 2), boundaries included."""

    layers: list[Tensor]
    mask: Tensor


class ElmoBiLm(nn.Module):
    """Character ids or cached words -> the layers of the biLM.

    Row b continues row b of the previous call, as in AllenNLP; stateful=False starts every call
    from the zero state.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        requires_grad: bool = False,
        vocab_to_cache: Sequence[str] | None = None,
        stateful: bool = True,
    ) -> None:
        super().__init__()
        model = Elmo.from_checkpoint(_without_mixes(checkpoint), requires_grad=requires_grad)
        self.config = checkpoint.config
        self.char_cnn, self.bilm = model.char_cnn, model.bilm
        self.stateful = stateful
        self._state: LstmState | None = None
        self._word_embedding: nn.Embedding | None = None
        if vocab_to_cache:
            vectors = self._vectors(char_ids(vocab_to_cache, max_characters=self._width))
            self._word_embedding = nn.Embedding(len(vectors), vectors.shape[1], padding_idx=0)
            self._word_embedding.weight = nn.Parameter(vectors, requires_grad=requires_grad)
        self.register_state_dict_post_hook(_to_allennlp)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_from_allennlp)  # type: ignore[no-untyped-call]

    @property
    def _width(self) -> int:
        return self.config.max_characters_per_token

    def forward(self, inputs: Tensor, word_inputs: Tensor | None = None) -> Activations:
        """Ids (batch, length, characters), or cached word ids (batch, length) where given.

        A word id outside the cache makes the entire batch use the characters.
        """
        tokens, lengths = self._tokens(inputs, word_inputs)
        state = self._first_rows(tokens) if self.stateful else None
        layers, final = self.bilm(tokens, lengths + 2, state)
        if self.stateful:
            self._keep(final)
        return Activations(layers, mask_of(lengths + 2, tokens.shape[1]))

    def reset_states(self) -> None:
        """Forget the states of earlier calls."""
        self._state = None

    def _tokens(self, inputs: Tensor, words: Tensor | None) -> tuple[Tensor, Tensor]:
        """Token vectors (batch, length + 2, P), boundary tokens included, and lengths (batch,)."""
        table = self._word_embedding
        if table is None or words is None or bool((words >= table.num_embeddings).any()):
            lengths = lengths_of(inputs)
            return self.char_cnn(add_sentence_marks(inputs, lengths)), lengths
        lengths = (words > 0).sum(dim=-1)
        begin, end = self._vectors(char_ids(["<S>", "</S>"], max_characters=self._width))
        batch, length = words.shape
        tokens = table.weight.new_zeros(batch, length + 2, table.embedding_dim)
        tokens[:, 1:-1] = table(words)
        tokens[:, 0] = begin
        tokens[torch.arange(batch, device=words.device), lengths + 1] = end
        return tokens, lengths

    def _vectors(self, ids: Any) -> Tensor:
        """(words, characters) -> (words, P), without a gradient."""
        device = self.char_cnn.embedding.device
        with torch.no_grad():
            vectors: Tensor = self.char_cnn(torch.from_numpy(ids).to(device))
        return vectors

    def _first_rows(self, tokens: Tensor) -> LstmState:
        """The state of the first rows; rows that were never used start from zero."""
        zero = self.bilm.zero_state(tokens)
        if self._state is None:
            return zero
        return LstmState(*map(_overlay, zero, self._state))

    def _keep(self, final: LstmState) -> None:
        """Keep the new rows, and rows beyond this batch as they were."""
        final = LstmState(final.h.detach(), final.c.detach())
        if self._state is not None and self._state.h.shape[2] > final.h.shape[2]:
            final = LstmState(*map(_overlay, self._state, final))
        self._state = final


def _overlay(below: Tensor, above: Tensor) -> Tensor:
    """The rows (axis 2) of `below`, replaced by those of `above` as far as both go."""
    rows = min(below.shape[2], above.shape[2])
    return torch.cat([above[:, :, :rows].to(below), below[:, :, rows:]], dim=2)


def _without_mixes(checkpoint: Checkpoint) -> Checkpoint:
    tensors = {n: t for n, t in checkpoint.tensors.items() if not n.startswith("layer_mix.")}
    return replace(checkpoint, tensors=tensors, mix_labels=())


def _to_allennlp(module: nn.Module, state: dict[str, Any], prefix: str, metadata: object) -> None:
    """Replace the names and layouts of this project by AllenNLP's."""
    assert isinstance(module, ElmoBiLm)
    for entry in entries(module.config):
        parts = [state.pop(prefix + name).detach() for name in entry.tensors]
        array = entry.layout.to_file(*(part.cpu().numpy() for part in parts))
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        state[prefix + entry.name.removeprefix(PREFIX)] = tensor.to(parts[0])


def _from_allennlp(
    module: nn.Module, state: dict[str, Any], prefix: str, *arguments: object
) -> None:
    """Replace AllenNLP's names and layouts by those of this project; missing names stay missing."""
    assert isinstance(module, ElmoBiLm)
    for entry in entries(module.config):
        tensor = state.pop(prefix + entry.name.removeprefix(PREFIX), None)
        if tensor is None:
            continue
        array = tensor.detach().cpu().numpy()
        entry.check_shape(array.shape)
        for name, part in zip(
            entry.tensors, entry.layout.to_model(entry.check_values(array)), strict=True
        ):
            state[prefix + name] = torch.from_numpy(np.ascontiguousarray(part))
    cached = prefix + CACHED_WORDS.removeprefix(PREFIX)
    if module._word_embedding is None:
        state.pop(cached, None)  # A cache is derived from the weights.


def remove_sentence_boundaries(tensor: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """(batch, length + 2, width) and its mask -> both without <S> and </S>, 0 past each length."""
    lengths = (mask.sum(dim=1) - 2).clamp(min=0)
    inner = mask_of(lengths, tensor.shape[1] - 2)
    return tensor[:, 1:-1] * inner.unsqueeze(-1), inner
