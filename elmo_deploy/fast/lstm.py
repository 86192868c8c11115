"""A projected LSTM over all steps of a window as one differentiable function.

`elmo_deploy.model.lstm.ProjectedLstm` is the definition. Here one matrix product serves the inputs
of all steps and, in the backward pass, one serves each weight. Several independent LSTMs of one
shape, such as the two directions of a layer, run together.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from elmo_deploy.model.lstm import Clips, LstmState, ProjectedLstm


class LstmWeights(NamedTuple):
    """The weights of n LSTMs, named as those of `ProjectedLstm`."""

    input: Tensor  # (n, P, 4C)
    recurrent: Tensor  # (n, P, 4C)
    bias: Tensor  # (n, 4C)
    projection: Tensor  # (n, C, P)

    @classmethod
    def of(cls, *layers: ProjectedLstm) -> LstmWeights:
        """The weights of layers of one shape, stacked."""
        if len(layers) == 1:  # a view: stacking would copy the weights
            return cls(*(weight.unsqueeze(0) for weight in _weights(layers[0])))
        return cls(*map(torch.stack, zip(*map(_weights, layers), strict=True)))


class FastLstm(ProjectedLstm):
    """A ProjectedLstm whose forward pass is `run_window`."""

    def forward(
        self, inputs: Tensor, state: LstmState, mask: Tensor | None = None
    ) -> tuple[Tensor, LstmState]:
        """(batch, length, P), state of (batch, ...) -> (batch, length, P) and the final state."""
        outputs, h, c = run_window(
            inputs.transpose(0, 1).unsqueeze(0).to(state.c.dtype),
            (state.h.unsqueeze(0), state.c.unsqueeze(0)),
            LstmWeights.of(self),
            mask=None if mask is None else mask.t().unsqueeze(-1),
            clips=self.clips,
        )
        return outputs[0].transpose(0, 1), LstmState(h[0], c[0])


def run_window(
    inputs: Tensor,
    state: tuple[Tensor, Tensor],
    weights: LstmWeights,
    *,
    mask: Tensor | None,
    clips: Clips,
) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs (n, length, batch, P) from state h, c -> outputs of that shape, final h, final c.

    The state is (n, batch, P) and (n, batch, C). Where mask (length, batch, 1) is False the output
    is 0 and the state does not change. Under autocast the matrix products use its type, gates and
    cells that of the state.
    """
    kind = inputs.device.type
    products = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else inputs.dtype
    with torch.autocast(kind, enabled=False):
        outputs: tuple[Tensor, Tensor, Tensor] = WindowLstm.apply(
            inputs, *state, *weights, mask, clips, products
        )  # type: ignore[no-untyped-call]
    return outputs


class WindowLstm(torch.autograd.Function):
    """The recurrence, which saves its gates, and its derivative, which runs back over time."""

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        h: Tensor,
        c: Tensor,
        input_weight: Tensor,
        recurrent_weight: Tensor,
        bias: Tensor,
        projection_weight: Tensor,
        mask: Tensor | None,
        clips: Clips,
        products: torch.dtype,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compute `run_window` and save what the derivative needs of every step."""
        n, length, batch, width = inputs.shape
        n_cells = c.shape[-1]
        x, w_x, w_h, w_p = (
            tensor.to(products)
            for tensor in (inputs, input_weight, recurrent_weight, projection_weight)
        )
        shift = bias.clone()
        shift[:, 2 * n_cells : 3 * n_cells] += 1.0  # sigmoid(f + 1)
        gates = _affine(x.reshape(n, -1, width), w_x, shift).view(n, length, batch, 4 * n_cells)
        raw_c, tanh_c, hidden = (c.new_empty(n, length, batch, n_cells) for _ in range(3))
        raw_h = h.new_empty(n, length, batch, width)
        cells = c.new_empty(n, length + 1, batch, n_cells)
        states = h.new_empty(n, length + 1, batch, width)
        cells[:, 0], states[:, 0] = c, h
        for t in range(length):
            z = _add_product(gates[:, t], states[:, t], w_h)
            i = z[..., :n_cells].sigmoid_()
            g = z[..., n_cells : 2 * n_cells].tanh_()
            f, o = z[..., 2 * n_cells :].sigmoid_().chunk(2, dim=-1)
            torch.mul(f, cells[:, t], out=raw_c[:, t]).addcmul_(i, g)
            _clip(raw_c[:, t], clips.cell, out=cells[:, t + 1])
            torch.tanh(cells[:, t + 1], out=tanh_c[:, t])
            torch.mul(o, tanh_c[:, t], out=hidden[:, t])
            raw_h[:, t] = hidden[:, t].to(products) @ w_p
            _clip(raw_h[:, t], clips.projection, out=states[:, t + 1])
            if mask is not None:  # past the end the state does not change
                cells[:, t + 1] = torch.where(mask[t], cells[:, t + 1], cells[:, t])
                states[:, t + 1] = torch.where(mask[t], states[:, t + 1], states[:, t])
        ctx.save_for_backward(
            x, w_x, w_h, w_p, mask, gates, raw_c, tanh_c, hidden, raw_h, cells, states
        )
        ctx.clips = clips
        outputs = states[:, 1:].clone() if mask is None else states[:, 1:] * mask
        return outputs, states[:, -1].clone(), cells[:, -1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of outputs, final h, final c -> gradients of the arguments of `forward`."""
        (
            x, w_x, w_h, w_p, mask, gates, raw_c, tanh_c, hidden, raw_h, cells, states
        ) = ctx.saved_tensors  # fmt: skip
        grad_output, dh, dc = grad_outputs
        n, length, batch, width = x.shape
        n_cells = dc.shape[-1]
        # The factor of each gate's gradient, for all steps at once. The loop turns it into the
        # gradient of the gate before its sigmoid or tanh.
        dz = _gate_derivatives(gates, tanh_c, cells[:, :-1])
        dz_by_gate = dz.view(n, length, batch, 4, n_cells)
        _, _, f, o = gates.chunk(4, dim=-1)
        to_c = tanh_c.square().neg_().add_(1).mul_(o)
        open_c, open_h = _unclipped(raw_c, ctx.clips.cell), _unclipped(raw_h, ctx.clips.projection)
        d_raw_h = torch.empty_like(raw_h)
        back_h, back_p = w_h.transpose(1, 2), w_p.transpose(1, 2)
        for t in reversed(range(length)):
            if mask is None:
                torch.add(grad_output[:, t], dh, out=d_raw_h[:, t])
            else:
                past_h, past_c = dh * ~mask[t], dc * ~mask[t]  # these bypass the cell
                d_raw_h[:, t] = (grad_output[:, t] + dh) * mask[t]
                dc = dc * mask[t]
            if open_h is not None:
                d_raw_h[:, t].mul_(open_h[:, t])
            d_hidden = (d_raw_h[:, t].to(w_p.dtype) @ back_p).to(dc.dtype)
            dc = torch.addcmul(dc, d_hidden, to_c[:, t])
            if open_c is not None:
                dc.mul_(open_c[:, t])
            dz_by_gate[:, t, :, :3].mul_(dc.unsqueeze(2))
            dz_by_gate[:, t, :, 3].mul_(d_hidden)
            dc = dc.mul_(f[:, t])
            dh = (dz[:, t].to(w_h.dtype) @ back_h).to(dh.dtype)
            if mask is not None:
                dh, dc = dh + past_h, dc + past_c
        rows = dz.view(n, -1, 4 * n_cells).to(w_x.dtype)
        out = dc.dtype
        return (
            (rows @ w_x.transpose(1, 2)).view_as(x).to(out),
            dh,
            dc,
            _product_over_rows(x, rows).to(out),
            _product_over_rows(states[:, :-1], rows).to(out),
            dz.sum(dim=(1, 2)),
            _product_over_rows(hidden, d_raw_h.view(n, -1, width).to(w_p.dtype)).to(out),
            None,
            None,
            None,
        )


def _gate_derivatives(gates: Tensor, tanh_c: Tensor, cells_before: Tensor) -> Tensor:
    """(n, length, batch, 4C): d cell / d z for i, g and f, d hidden / d z for o."""
    i, g, f, o = gates.chunk(4, dim=-1)
    derivatives = torch.empty_like(gates)
    by_i, by_g, by_f, by_o = derivatives.chunk(4, dim=-1)
    torch.mul(i, 1 - i, out=by_i).mul_(g)
    torch.mul(g, g, out=by_g).neg_().add_(1).mul_(i)
    torch.mul(f, 1 - f, out=by_f).mul_(cells_before)
    torch.mul(o, 1 - o, out=by_o).mul_(tanh_c)
    return derivatives


def _weights(layer: ProjectedLstm) -> tuple[Tensor, ...]:
    return layer.input_weight, layer.recurrent_weight, layer.bias, layer.projection_weight


def _affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if x.dtype == bias.dtype:
        return torch.baddbmm(bias.unsqueeze(1), x, weight)
    return (x @ weight).to(bias.dtype).add_(bias.unsqueeze(1))


def _add_product(z: Tensor, h: Tensor, weight: Tensor) -> Tensor:
    """Add h W to z in place; W may have a lower precision."""
    if weight.dtype == z.dtype:
        return z.baddbmm_(h, weight)
    return z.add_(h.to(weight.dtype) @ weight)


def _product_over_rows(x: Tensor, rows: Tensor) -> Tensor:
    """x^T rows for x (n, length, batch, D) and rows (n, length * batch, E): (n, D, E)."""
    return x.reshape(len(x), -1, x.shape[-1]).transpose(1, 2).to(rows.dtype) @ rows


def _clip(x: Tensor, limit: float | None, *, out: Tensor) -> None:
    if limit is None:
        out.copy_(x)
    else:
        torch.clamp(x, -limit, limit, out=out)


def _unclipped(raw: Tensor, limit: float | None) -> Tensor | None:
    """1 where the clip passes the value, and so its gradient; 0 elsewhere. None without a clip."""
    return None if limit is None else (raw.abs() <= limit).to(raw.dtype)
