"""One direction of one layer: an LSTM with a recurrent projection, clipped twice.

Sak et al. 2014, https://arxiv.org/abs/1402.1128. It differs from torch.nn.LSTM(proj_size=...) in
that it clips the cell and the projection.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from elmo_runtime.config import ElmoConfig


class LstmState(NamedTuple):
    """The state of an LSTM: the clipped projection h (..., P) and the clipped cell c (..., C)."""

    h: Tensor
    c: Tensor


class Clips(NamedTuple):
    """Limits of the cell and of the projection; None means no limit."""

    cell: float | None
    projection: float | None


class ProjectedLstm(nn.Module):
    """The LSTM of https://arxiv.org/abs/1402.1128, step by step, with the clips of bilm-tf.

    `elmo_deploy.fast.lstm` computes the same faster. The weights hold the gates in the order of the
    published files: i, g, f, o.
    """

    def __init__(self, config: ElmoConfig) -> None:
        super().__init__()
        projection, cell = config.projection_dim, config.lstm_dim
        self.clips = Clips(config.cell_clip, config.proj_clip)
        self.input_weight = nn.Parameter(torch.empty(projection, 4 * cell))
        self.recurrent_weight = nn.Parameter(torch.empty(projection, 4 * cell))
        self.bias = nn.Parameter(torch.empty(4 * cell))
        self.projection_weight = nn.Parameter(torch.empty(cell, projection))

    def forward(
        self, inputs: Tensor, state: LstmState, mask: Tensor | None = None
    ) -> tuple[Tensor, LstmState]:
        """(batch, length, P), state of (batch, ...) -> (batch, length, P) and the final state.

        Where mask (batch, length) is False, the output is 0 and the state does not change.
        """
        outputs = []
        for t, x in enumerate(inputs.to(state.c.dtype).unbind(dim=1)):
            following = self.step(x, state)
            state = following if mask is None else select(mask[:, t], following, state)
            outputs.append(state.h)
        output = torch.stack(outputs, dim=1)
        return output if mask is None else output * mask.unsqueeze(-1), state

    def step(self, x: Tensor, state: LstmState) -> LstmState:
        """One time step: x (batch, P) and the state before it -> the state after it."""
        h, c = state
        z = x @ self.input_weight + h @ self.recurrent_weight + self.bias  # (batch, 4C)
        i, g, f, o = z.chunk(4, dim=-1)
        i, g, f, o = i.sigmoid(), g.tanh(), (f + 1).sigmoid(), o.sigmoid()
        c = clip(f * c + i * g, self.clips.cell)
        h = clip((o * c.tanh()) @ self.projection_weight, self.clips.projection)
        return LstmState(h, c)

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Glorot uniform over the joint (2P, 4C) kernel, as in bilm-tf; the bias is 0."""
        rows = 2 * self.input_weight.shape[0]
        bound = (6 / (rows + self.input_weight.shape[1])) ** 0.5
        nn.init.uniform_(self.input_weight, -bound, bound, generator)
        nn.init.uniform_(self.recurrent_weight, -bound, bound, generator)
        nn.init.xavier_uniform_(self.projection_weight, generator=generator)
        nn.init.zeros_(self.bias)


def clip(x: Tensor, limit: float | None) -> Tensor:
    """Limit x to [-limit, limit]; None means no limit."""
    return x if limit is None else x.clamp(-limit, limit)


def select(real: Tensor, new: LstmState, old: LstmState) -> LstmState:
    """The new state of each row where `real` (batch,) is True, the old one elsewhere."""
    rows = real.unsqueeze(-1)
    return LstmState(torch.where(rows, new.h, old.h), torch.where(rows, new.c, old.c))
