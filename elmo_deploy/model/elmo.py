"""Character ids -> ELMo vectors: character CNN, biLM, layer mix and pooling in one module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from elmo_deploy.model.bilm import BiLm, mask_of
from elmo_deploy.model.char_cnn import CharCnn
from elmo_deploy.model.layer_mix import LayerMix
from elmo_deploy.model.lstm import LstmState, ProjectedLstm
from elmo_deploy.model.pooling import mean_over_tokens
from elmo_export.checkpoint import SOFTMAX, Checkpoint, MixLabel
from elmo_runtime import characters
from elmo_runtime.config import ElmoConfig
from elmo_runtime.errors import InputError


class ElmoOutput(NamedTuple):
    """The outputs for a batch; every row past a sentence's length is 0."""

    word_emb: Tensor  # (batch, length, P)
    layers: list[Tensor]  # 0..n of (batch, length, 2P)
    elmo: list[Tensor]  # per mix: (batch, length, 2P)
    default: list[Tensor]  # per mix: (batch, 2P)
    mask: Tensor  # (batch, length) bool
    state: LstmState  # (layers, 2, batch, P) and (layers, 2, batch, C)


class Elmo(nn.Module):
    """ELMo as the published weights compute it.

    Peters et al. 2018, "Deep contextualized word representations": https://arxiv.org/abs/1802.05365

    Args:
        config: The shape of the model.
        n_mixes: The number of layer mixes, by default 1.
        mix_names: Names of the mixes in a checkpoint and in a bundle, by default "0", "1", ...
            The first mix is the default one.
        do_layer_norm: See LayerMix.
        lstm_input_dropout: The dropout probability of the inputs of every LSTM layer, as in
            bilm-tf. AllenNLP's `dropout` acts on the output vectors instead.
        requires_grad: Whether the character CNN and the biLM are fine-tuned; the mixes always are.
        seed: The seed of the initial weights.
        fast: Compute the LSTMs by `elmo_deploy.fast`. False computes the equations step by step,
            which is several times slower but can be compiled and differentiated twice.
    """

    def __init__(
        self,
        config: ElmoConfig,
        *,
        n_mixes: int | None = None,
        mix_names: Sequence[str] | None = None,
        do_layer_norm: bool | Sequence[bool] = False,
        lstm_input_dropout: float = 0.0,
        requires_grad: bool = False,
        seed: int = 0,
        fast: bool = True,
        dropout: None = None,
    ) -> None:
        super().__init__()
        _refuse_dropout(dropout)
        self.config = config
        self.mix_names = _mix_names(n_mixes, mix_names)
        # On the CPU first, so that the initial weights do not depend on torch's default device.
        with torch.device("cpu"):
            self.char_cnn = CharCnn(config)
            self.bilm = _bilm(config, input_dropout=lstm_input_dropout, fast=fast)
            self.layer_mix = LayerMix(
                config.n_layers + 1, n_mixes=len(self.mix_names), do_layer_norm=do_layer_norm
            )
            self.reset_parameters(torch.Generator().manual_seed(seed))
        for part in (self.char_cnn, self.bilm):
            part.requires_grad_(requires_grad)
        self.to(torch.get_default_device())

    def forward(self, char_ids: Tensor, state: LstmState | None = None) -> ElmoOutput:
        """Shifted ids (batch, length, characters) int32 or int64, 0 past a sentence -> ElmoOutput.

        Each row continues from its row of `state`, by default from the zero state. Raises
        InputError for an id out of range or an empty row between tokens.
        """
        lengths = lengths_of(char_ids)
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
        """The paper's initialization; the generator decides all weights."""
        for part in self.modules():
            if isinstance(part, CharCnn | ProjectedLstm):
                part.reset_parameters(generator)

    @classmethod
    def from_checkpoint(
        cls,
        checkpoint: Checkpoint | Path,
        *,
        n_mixes: int | None = None,
        mix_names: Sequence[str] | None = None,
        do_layer_norm: bool | Sequence[bool] | None = None,
        lstm_input_dropout: float = 0.0,
        requires_grad: bool = False,
        fast: bool = True,
        dropout: None = None,
    ) -> Elmo:
        """The model of a checkpoint or of its directory, without the softmax.

        By default n_mixes, mix_names and do_layer_norm are those of the checkpoint; one without
        mixes gives a single mix without layer norm. The other arguments are those of the class.

        Raises:
            InputError: The checkpoint holds another number of mixes.
            CheckpointError: The checkpoint is corrupt.
            ConfigError: Its config is invalid.
        """
        if not isinstance(checkpoint, Checkpoint):
            checkpoint = Checkpoint.read(checkpoint)
        tensors = {
            name: torch.tensor(array)
            for name, array in checkpoint.tensors.items()
            if name not in SOFTMAX
        }
        labels = checkpoint.mix_labels
        for given in (n_mixes, None if mix_names is None else len(mix_names)):
            if labels and given is not None and given != len(labels):
                raise InputError(
                    f"n_mixes is {given}, the checkpoint holds {len(labels)} layer mixes"
                )
        if labels and mix_names is None:
            mix_names = [label.name for label in labels]
        if do_layer_norm is None:
            do_layer_norm = [label.do_layer_norm for label in labels] if labels else False
        model = cls(
            checkpoint.config,
            n_mixes=n_mixes,
            mix_names=mix_names,
            do_layer_norm=do_layer_norm,
            lstm_input_dropout=lstm_input_dropout,
            requires_grad=requires_grad,
            fast=fast,
            dropout=dropout,
        )
        # Assigning instead of copying keeps torch's default dtype from rounding the weights.
        model.load_state_dict(model.state_dict() | tensors, assign=True)
        return model

    def to_checkpoint(
        self,
        *,
        vocabulary: Sequence[str] | None = None,
        provenance: Mapping[str, str] | None = None,
    ) -> Checkpoint:
        """Config, weights and layer mixes, copied to float32 arrays."""
        return Checkpoint(
            config=self.config,
            tensors={
                name: tensor.detach().to("cpu", torch.float32, copy=True).numpy()
                for name, tensor in self.state_dict().items()
            },
            vocabulary=None if vocabulary is None else tuple(vocabulary),
            provenance=dict(provenance or {}),
            mix_labels=tuple(
                MixLabel(name=name, do_layer_norm=flag)
                for name, flag in zip(self.mix_names, self.layer_mix.do_layer_norm, strict=True)
            ),
        )


def _bilm(config: ElmoConfig, *, input_dropout: float, fast: bool) -> BiLm:
    if not fast:
        return BiLm(config, input_dropout=input_dropout)
    from elmo_deploy.fast.lstm import FastLstm  # imports this package, so it is imported late

    return BiLm(config, input_dropout=input_dropout, lstm=FastLstm)


def _refuse_dropout(dropout: object) -> None:
    """AllenNLP's name for another thing: its dropout acts on the output vectors."""
    if dropout is not None:
        raise InputError(
            f"Elmo has no argument dropout (given: {dropout!r})",
            hint="use lstm_input_dropout for the inputs of the LSTM layers; for AllenNLP's dropout"
            " of the output vectors, use elmo_deploy.integrations.allennlp or torch.nn.Dropout",
        )


def _mix_names(n_mixes: int | None, names: Sequence[str] | None) -> tuple[str, ...]:
    """Return one name per mix; raise InputError for another number of names."""
    if names is None:
        return tuple(map(str, range(1 if n_mixes is None else n_mixes)))
    if isinstance(names, str) or n_mixes not in (None, len(names)):
        raise InputError(f"mix_names is {names!r}, must be a list of {n_mixes or 'some'} names")
    return tuple(names)


def lengths_of(char_ids: Tensor) -> Tensor:
    """(batch, length, characters) -> number of real tokens of each sentence (batch,).

    A token is real if any of its ids is above 0. Raises InputError for an id out of range, which
    is an unrecoverable device fault on CUDA, and for a gap, which would shift the tokens after it.
    """
    if ((char_ids < 0) | (char_ids >= characters.N_CHARACTERS)).any():
        raise InputError(f"char_ids hold values outside 0..{characters.N_CHARACTERS - 1}")
    real = (char_ids > 0).any(dim=-1)
    lengths = real.sum(dim=-1)
    hole = real != mask_of(lengths, char_ids.shape[1])
    if hole.any():
        sentence, position = hole.nonzero()[0].tolist()
        raise InputError(
            f"char_ids[{sentence}, {position}] is empty, yet tokens follow it",
            hint="put the padding after the last token of each sentence",
        )
    return lengths


def add_sentence_marks(char_ids: Tensor, lengths: Tensor) -> Tensor:
    """(batch, length, characters) -> (batch, length + 2, characters): <S> before, </S> after."""
    batch, length, width = char_ids.shape
    begin, end = (
        torch.tensor(
            characters.boundary_row(mark, width), dtype=char_ids.dtype, device=char_ids.device
        )
        for mark in (characters.BEGIN_SENTENCE, characters.END_SENTENCE)
    )
    marked = char_ids.new_zeros(batch, length + 2, width)
    marked[:, 0] = begin
    marked[:, 1:-1] = char_ids
    marked[torch.arange(batch, device=char_ids.device), lengths + 1] = end
    return marked
