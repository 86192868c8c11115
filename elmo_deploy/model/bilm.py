"""Two stacks of projected LSTMs over token vectors: one reads forward, one backward."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from elmo_deploy.model.lstm import LstmState, ProjectedLstm
from elmo_runtime.config import ElmoConfig
from elmo_runtime.errors import InputError


class LstmStack(nn.Module):
    """The layers of one direction; with skip connections each layer >= 1 adds its input.

    `input_dropout` is the dropout probability of the inputs of every layer, as in bilm-tf.
    """

    def __init__(
        self,
        config: ElmoConfig,
        *,
        input_dropout: float = 0.0,
        lstm: type[ProjectedLstm] = ProjectedLstm,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(lstm(config) for _ in range(config.n_layers))
        self.dropout = nn.Dropout(input_dropout)
        self.use_skip_connections = config.use_skip_connections

    def forward(
        self, tokens: Tensor, state: LstmState, mask: Tensor | None = None
    ) -> tuple[list[Tensor], LstmState]:
        """(batch, length, P), state of (layers, batch, ...) -> each layer's output, final state.

        Where mask (batch, length) is False, tokens must be 0 and every output is 0.
        """
        outputs: list[Tensor] = []
        finals: list[LstmState] = []
        x = tokens
        for depth, layer in enumerate(self.layers):
            x = self.dropout(x)
            y, final = layer(x, LstmState(state.h[depth], state.c[depth]), mask)
            # The next layer and the output receive the sum, the recurrent state never does.
            x = y + x if self.use_skip_connections and depth > 0 else y
            outputs.append(x)
            finals.append(final)
        h, c = (torch.stack(part) for part in zip(*finals, strict=True))
        return outputs, LstmState(h, c)


class BiLmOutput(NamedTuple):
    """Layers 0..n of (batch, length, 2P) and the final state of (layers, 2, batch, ...)."""

    layers: list[Tensor]
    state: LstmState


class BiLm(nn.Module):
    """The bidirectional language model of https://arxiv.org/abs/1802.05365, without its softmax.

    Each direction reads only its own lower layer. `lstm` is the class of a layer.
    """

    def __init__(
        self,
        config: ElmoConfig,
        *,
        input_dropout: float = 0.0,
        lstm: type[ProjectedLstm] = ProjectedLstm,
    ) -> None:
        super().__init__()
        self.config = config
        self.forward_stack = LstmStack(config, input_dropout=input_dropout, lstm=lstm)
        self.backward_stack = LstmStack(config, input_dropout=input_dropout, lstm=lstm)

    def forward(
        self, tokens: Tensor, lengths: Tensor, state: LstmState | None = None
    ) -> BiLmOutput:
        """Token vectors (batch, length, P), lengths (batch,) -> layers, 0 past each length."""
        state = self.zero_state(tokens) if state is None else self.check_state(state, tokens)
        mask = mask_of(lengths, tokens.shape[1])
        tokens = tokens * mask.unsqueeze(-1)
        reverse = reverse_within(lengths, tokens.shape[1])
        both = torch.stack([tokens, take_time(tokens, reverse)])
        outputs, final = self.run_stacks(both, state, mask)
        layers = [torch.cat([tokens, tokens], dim=-1)]
        layers += [torch.cat([f, take_time(b, reverse)], dim=-1) for f, b in outputs]
        return BiLmOutput(layers, final)

    def run_stacks(
        self, tokens: Tensor, state: LstmState, mask: Tensor | None = None
    ) -> tuple[list[Tensor], LstmState]:
        """(2, batch, length, P) in the order in which each direction reads them, and a state.

        Returns each layer's output (2, batch, length, P) and the final state; both states are of
        (layers, 2, batch, ...). Where mask (batch, length) is False, tokens must be 0 and every
        output is 0.
        """
        directions = []
        for direction, stack in enumerate((self.forward_stack, self.backward_stack)):
            start = LstmState(state.h[:, direction], state.c[:, direction])
            directions.append(stack(tokens[direction], start, mask))
        outputs, finals = zip(*directions, strict=True)
        h, c = (torch.stack(part, dim=1) for part in zip(*finals, strict=True))
        return [torch.stack(pair) for pair in zip(*outputs, strict=True)], LstmState(h, c)

    def zero_state(self, like: Tensor) -> LstmState:
        """Zeros of (layers, 2, batch, P) and (layers, 2, batch, C) for a batch like `like`."""
        h, c = self.state_shapes(len(like))
        return LstmState(like.new_zeros(h), like.new_zeros(c))

    def check_state(self, state: LstmState, like: Tensor) -> LstmState:
        """Return the state; raise InputError if its shapes do not fit a batch like `like`."""
        # Without this check, broadcasting would share a state of one row with the entire batch.
        shapes, expected = tuple(tuple(part.shape) for part in state), self.state_shapes(len(like))
        if shapes != expected:
            raise InputError(f"the state has shapes {shapes}, this batch needs {expected}")
        return state

    def state_shapes(self, batch: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of h and c for a batch of this size."""
        rows = (self.config.n_layers, 2, batch)
        return (*rows, self.config.projection_dim), (*rows, self.config.lstm_dim)


def mask_of(lengths: Tensor, width: int) -> Tensor:
    """(batch,) -> (batch, width), True where a token is real."""
    return torch.arange(width, device=lengths.device) < lengths.unsqueeze(-1)


def reverse_within(lengths: Tensor, width: int) -> Tensor:
    """Positions (batch, width) that reverse each sentence within its own length."""
    position = torch.arange(width, device=lengths.device).expand(len(lengths), width)
    mirrored = lengths.unsqueeze(-1) - 1 - position
    return torch.where(mirrored >= 0, mirrored, position)


def take_time(x: Tensor, positions: Tensor) -> Tensor:
    """(batch, length, D) at positions (batch, length) -> (batch, length, D)."""
    return x.gather(1, positions.unsqueeze(-1).expand_as(x))
