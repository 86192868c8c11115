"""FastLstm computes the values and gradients of ProjectedLstm."""

import pytest
import torch

from elmo_deploy.fast.lstm import FastLstm
from elmo_deploy.model.lstm import LstmState, ProjectedLstm
from random_models import tiny_config


def harsh_lstm(cell_clip, proj_clip):
    """Weights so large that both clips bind for about a third of all values."""
    lstm = FastLstm(tiny_config(cell_clip=cell_clip, proj_clip=proj_clip)).double()
    generator = torch.Generator().manual_seed(0)
    for parameter in lstm.parameters():
        torch.nn.init.normal_(parameter, 0.0, 1.0, generator)
    return lstm


def drawn(batch=5, length=7):
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(batch, length, 8, dtype=torch.float64, generator=generator)
    h = torch.randn(batch, 8, dtype=torch.float64, generator=generator)
    c = torch.randn(batch, 24, dtype=torch.float64, generator=generator)
    return [tensor.requires_grad_() for tensor in (inputs, h, c)]


def everything(forward, lstm, mask):
    """Outputs, final state, and the gradients of a loss that depends on all three."""
    inputs, h, c = drawn()
    outputs, state = forward(lstm, inputs, LstmState(h, c), mask)
    weights = torch.randn(outputs.shape, dtype=torch.float64, generator=torch.manual_seed(2))
    loss = (outputs * weights).sum() + state.h.square().sum() + state.c.sin().sum()
    gradients = torch.autograd.grad(loss, [inputs, h, c, *lstm.parameters()])
    return [outputs, state.h, state.c, *gradients]


@pytest.mark.parametrize(("cell_clip", "proj_clip"), [(None, None), (0.5, None), (0.5, 0.5)])
@pytest.mark.parametrize("lengths", [[7, 7, 7, 7, 7], [7, 1, 4, 0, 6]])
def test_a_window_equals_its_steps(cell_clip, proj_clip, lengths, assert_same):
    lstm = harsh_lstm(cell_clip, proj_clip)
    mask = torch.arange(7) < torch.tensor(lengths)[:, None]
    fast = everything(FastLstm.forward, lstm, mask)
    assert_same(fast, everything(ProjectedLstm.forward, lstm, mask))


@pytest.mark.parametrize("form", [FastLstm, ProjectedLstm])
def test_no_mask_equals_a_mask_of_ones(form, assert_same):
    lstm = harsh_lstm(0.5, 0.5)
    ones = torch.ones(5, 7, dtype=torch.bool)
    assert_same(everything(form.forward, lstm, None), everything(form.forward, lstm, ones))


def test_both_clips_bind_in_these_tests():
    lstm = harsh_lstm(0.5, 0.5)
    inputs, h, c = drawn()
    outputs, state = lstm(inputs, LstmState(h, c))
    assert (state.c.abs() == 0.5).double().mean() > 0.2
    assert (outputs.abs() == 0.5).double().mean() > 0.2


def test_products_follow_autocast_and_the_state_stays_precise():
    lstm = harsh_lstm(3.0, 3.0).float()
    inputs, h, c = (tensor.detach().float() for tensor in drawn())
    exact, _ = lstm(inputs, LstmState(h, c))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough, state = lstm(inputs.bfloat16(), LstmState(h, c))
    rough.sum().backward()
    assert state.c.dtype == rough.dtype == torch.float32
    assert 1e-4 < (rough - exact).abs().mean() < 0.5
