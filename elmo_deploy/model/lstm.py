"""One direction of one layer: an LSTM with a projection and two clips (Sak et al. 2014).

It differs from torch.nn.LSTM(proj_size=...) in clipping the cell and the projection.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from elmo_deploy.fast.lstm import Clips, LstmWeights, run_window
from elmo_runtime.config import ElmoConfig


class LstmState(NamedTuple):
    """Where an LSTM stands: the clipped projection h (..., P) and the clipped cell c (..., C)."""

    h: Tensor
    c: Tensor


class ProjectedLstm(nn.Module):
    """z = x Wx + h Wh + b, gates in the file's order i, g, f, o.

    c = clip(sigmoid(f + 1) c + sigmoid(i) tanh(g));  h = clip((sigmoid(o) tanh(c)) Wp).
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

        Where mask (batch, length) is False the output is 0 and the state stands still.
        """
        outputs, h, c = run_window(
            inputs.transpose(0, 1).unsqueeze(0).to(state.c.dtype),
            (state.h.unsqueeze(0), state.c.unsqueeze(0)),
            LstmWeights(*(weight.unsqueeze(0) for weight in self.weights)),
            mask=None if mask is None else mask.t().unsqueeze(-1),
            clips=self.clips,
        )
        return outputs[0].transpose(0, 1), LstmState(h[0], c[0])

    @property
    def weights(self) -> LstmWeights:
        """The parameters in the order in which they are used."""
        return LstmWeights(
            self.input_weight, self.recurrent_weight, self.bias, self.projection_weight
        )

    def step(self, product: Tensor, state: LstmState) -> LstmState:
        """One time step; product (batch, 4C) is x Wx + b. This defines what `forward` computes."""
        i, g, f, o = (product + state.h @ self.recurrent_weight).chunk(4, dim=-1)
        c = torch.sigmoid(f + 1.0) * state.c + torch.sigmoid(i) * torch.tanh(g)
        c = clip(c, self.clips.cell)
        h = clip((torch.sigmoid(o) * torch.tanh(c)) @ self.projection_weight, self.clips.projection)
        return LstmState(h, c)

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Glorot uniform over the joint (2P, 4C) kernel as in the original; bias 0."""
        rows = 2 * self.input_weight.shape[0]
        bound = (6 / (rows + self.input_weight.shape[1])) ** 0.5
        nn.init.uniform_(self.input_weight, -bound, bound, generator)
        nn.init.uniform_(self.recurrent_weight, -bound, bound, generator)
        nn.init.xavier_uniform_(self.projection_weight, generator=generator)
        nn.init.zeros_(self.bias)


def clip(x: Tensor, limit: float | None) -> Tensor:
    """Limit x to [-limit, limit]; None binds nothing."""
    return x if limit is None else x.clamp(-limit, limit)
