"""Two stacks of projected LSTMs over token vectors: one reads forward, one backward."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from elmo_deploy.model.lstm import LstmState, ProjectedLstm
from elmo_runtime.config import ElmoConfig
from elmo_runtime.errors import InputError


class LstmStack(nn.Module):
    """The layers of one direction; with skip connections each layer >= 1 adds its input."""

    def __init__(self, config: ElmoConfig, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.ModuleList(ProjectedLstm(config) for _ in range(config.n_layers))
        self.dropout = nn.Dropout(dropout)
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
            # The sum goes up and out, never into the recurrent state.
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
    """Both directions; each sees only its own lower layer."""

    def __init__(self, config: ElmoConfig, dropout: float = 0.0) -> None:
        super().__init__()
        self.config = config
        self.forward_stack = LstmStack(config, dropout)
        self.backward_stack = LstmStack(config, dropout)

    def forward(
        self, tokens: Tensor, lengths: Tensor, state: LstmState | None = None
    ) -> BiLmOutput:
        """Token vectors (batch, length, P), lengths (batch,) -> layers, 0 past each length."""
        state = self.zero_state(tokens) if state is None else self.check_state(state, tokens)
        mask = mask_of(lengths, tokens.shape[1])
        tokens = tokens * mask.unsqueeze(-1)
        forward, final_f = self.forward_stack(tokens, LstmState(state.h[:, 0], state.c[:, 0]), mask)
        reverse = reverse_within(lengths, tokens.shape[1])
        backward, final_b = self.backward_stack(
            take_time(tokens, reverse), LstmState(state.h[:, 1], state.c[:, 1]), mask
        )
        layers = [torch.cat([tokens, tokens], dim=-1)]
        for f, b in zip(forward, backward, strict=True):
            layers.append(torch.cat([f, take_time(b, reverse)], dim=-1))
        final = LstmState(
            torch.stack([final_f.h, final_b.h], dim=1), torch.stack([final_f.c, final_b.c], dim=1)
        )
        return BiLmOutput(layers, final)

    def zero_state(self, like: Tensor) -> LstmState:
        """Zeros of (layers, 2, batch, P) and (layers, 2, batch, C) for a batch like `like`."""
        h, c = self.state_shapes(len(like))
        return LstmState(like.new_zeros(h), like.new_zeros(c))

    def check_state(self, state: LstmState, like: Tensor) -> LstmState:
        """The state itself; InputError if it is not one of a batch like `like`."""
        # Without this a state of one row would quietly be shared by the whole batch.
        shapes, expected = tuple(tuple(part.shape) for part in state), self.state_shapes(len(like))
        if shapes != expected:
            raise InputError(f"the state has shapes {shapes}, this batch needs {expected}")
        return state

    def state_shapes(self, batch: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of h and c for that many sentences."""
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
