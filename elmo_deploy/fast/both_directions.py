"""Both LSTM stacks of a biLM together: they are independent, so every call serves both.

`BiLm.run_stacks` is the definition.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from elmo_deploy.fast.lstm import LstmWeights, run_window
from elmo_deploy.model.bilm import BiLm
from elmo_deploy.model.lstm import LstmState, ProjectedLstm


def run_both(
    bilm: BiLm, tokens: Tensor, state: LstmState, mask: Tensor | None = None
) -> tuple[list[Tensor], LstmState]:
    """(2, rows, steps, P), state of (layers, 2, rows, ...) -> each layer's output, final state.

    An output is (2, rows, steps, P). Where mask (rows, steps) is False, tokens must be 0 and every
    output is 0.
    """
    steps_first = None if mask is None else mask.t().unsqueeze(-1)
    forward_stack, backward_stack = bilm.forward_stack, bilm.backward_stack
    outputs: list[Tensor] = []
    finals: list[tuple[Tensor, Tensor]] = []
    x = tokens.transpose(1, 2)  # (2, steps, rows, P)
    for depth, pair in enumerate(zip(forward_stack.layers, backward_stack.layers, strict=True)):
        layers = [cast(ProjectedLstm, layer) for layer in pair]
        x = forward_stack.dropout(x)
        y, *final = run_window(
            x.to(state.c.dtype),
            (state.h[depth], state.c[depth]),
            LstmWeights.of(*layers),
            mask=steps_first,
            clips=layers[0].clips,
        )
        x = y + x if bilm.config.use_skip_connections and depth > 0 else y
        outputs.append(x.transpose(1, 2))
        finals.append((final[0], final[1]))
    h, c = (torch.stack(part) for part in zip(*finals, strict=True))
    return outputs, LstmState(h, c)
