"""Character ids -> ELMo vectors: character CNN, biLM, layer mix and pooling in one module."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from elmo_deploy.model.bilm import BiLm, mask_of
from elmo_deploy.model.char_cnn import CharCnn
from elmo_deploy.model.layer_mix import LayerMix
from elmo_deploy.model.lstm import LstmState
from elmo_deploy.model.pooling import mean_over_tokens
from elmo_runtime import characters
from elmo_runtime.config import ElmoConfig


class ElmoOutput(NamedTuple):
    """What an ELMo says of a batch; every row past a sentence's length is 0."""

    word_emb: Tensor  # (batch, length, P)
    layers: list[Tensor]  # 0..n of (batch, length, 2P)
    elmo: list[Tensor]  # a mix: (batch, length, 2P)
    default: list[Tensor]  # a mix: (batch, 2P)
    mask: Tensor  # (batch, length) bool
    state: LstmState  # (layers, 2, batch, P) and (layers, 2, batch, C)


class Elmo(nn.Module):
    """Peters et al. 2018, as the published weights compute it.

    With requires_grad=False only the layer mixes train; with True the biLM is fine-tuned too.
    """

    def __init__(
        self,
        config: ElmoConfig,
        *,
        n_mixes: int = 1,
        do_layer_norm: bool = False,
        dropout: float = 0.0,
        requires_grad: bool = False,
    ) -> None:
        super().__init__()
        self.config = config
        self.char_cnn = CharCnn(config)
        self.bilm = BiLm(config, dropout)
        self.layer_mix = LayerMix(config.n_layers + 1, n_mixes=n_mixes, do_layer_norm=do_layer_norm)
        for part in (self.char_cnn, self.bilm):
            part.requires_grad_(requires_grad)
        self.reset_parameters(torch.Generator().manual_seed(0))

    def forward(self, char_ids: Tensor, state: LstmState | None = None) -> ElmoOutput:
        """Shifted ids (batch, length, characters), 0 past each sentence -> ElmoOutput.

        `state` continues an earlier batch row by row; without it every row starts from zero.
        """
        lengths = (char_ids > 0).any(dim=-1).sum(dim=-1)
        tokens = self.char_cnn(add_sentence_marks(char_ids, lengths))
        layers, final = self.bilm(tokens, lengths + 2, state)
        mask = mask_of(lengths, char_ids.shape[1])
        layers = [layer[:, 1:-1] * mask.unsqueeze(-1) for layer in layers]
        mixes = self.layer_mix(layers, mask)
        return ElmoOutput(
            word_emb=layers[0][..., : self.config.projection_dim],
            layers=layers,
            elmo=mixes,
            default=[mean_over_tokens(mix, mask) for mix in mixes],
            mask=mask,
            state=final,
        )

    def reset_parameters(self, generator: torch.Generator) -> None:
        """The paper's initialisation, the same for the same generator state."""
        self.char_cnn.reset_parameters(generator)
        for stack in (self.bilm.forward_stack, self.bilm.backward_stack):
            for layer in stack.layers:
                layer.reset_parameters(generator)


def add_sentence_marks(char_ids: Tensor, lengths: Tensor) -> Tensor:
    """(batch, length, characters) -> (batch, length + 2, characters) with <S> before, </S> after."""
    batch, length, width = char_ids.shape
    begin, end = (
        torch.as_tensor(characters.mark_row(mark, width), dtype=char_ids.dtype).to(char_ids.device)
        for mark in (characters.BEGIN_SENTENCE, characters.END_SENTENCE)
    )
    marked = char_ids.new_zeros(batch, length + 2, width)
    marked[:, 0] = begin
    marked[:, 1:-1] = char_ids
    marked[torch.arange(batch, device=char_ids.device), lengths + 1] = end
    return marked
