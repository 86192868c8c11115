"""Each fast path of training computes what the readable model defines, gradients included."""

import numpy as np
import pytest
import torch

from elmo_deploy.fast.both_directions import run_both
from elmo_deploy.fast.convolution import convolve_at_once
from elmo_deploy.model.bilm import BiLm
from elmo_deploy.model.char_cnn import CharCnn
from elmo_deploy.model.lstm import LstmState, ProjectedLstm
from elmo_deploy.training.softmax import LogSumExp
from elmo_runtime.characters import char_ids
from random_models import tiny_config

EXACT = {"rtol": 1e-9, "atol": 1e-9}  # float64: only the order of sums differs


def gradients(output, tensors):
    weights = torch.randn(
        output.shape, dtype=output.dtype, generator=torch.Generator().manual_seed(7)
    )
    return torch.autograd.grad((output * weights).sum(), list(tensors))


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_all_convolutions_at_once_are_the_convolutions(activation):
    cnn = CharCnn(tiny_config(activation=activation)).double()
    cnn.reset_parameters(torch.Generator().manual_seed(0))
    groups = [["a", "aa", "aaaa"], ["banana", "nana"], ["<S>", "é" * 9, "x" * 20]]
    widths = (12, 16, 28)  # each leaves room for a window of padding
    ids = [
        torch.from_numpy(char_ids(words)[:, :width].astype(np.int64))
        for words, width in zip(groups, widths, strict=True)
    ]
    slow = torch.cat(
        [
            cnn.convolve(cnn.embed(torch.from_numpy(char_ids(words).astype(np.int64))))
            for words in groups
        ]
    )
    fast = convolve_at_once(cnn, ids)
    torch.testing.assert_close(fast, slow, **EXACT)
    used = [cnn.embedding, *cnn.convolutions.parameters()]
    for a, b in zip(gradients(fast, used), gradients(slow, used), strict=True):
        torch.testing.assert_close(a, b, **EXACT)


def test_both_directions_at_once_are_the_two_stacks():
    bilm = BiLm(tiny_config(cell_clip=0.3, proj_clip=0.3)).double()
    generator = torch.Generator().manual_seed(0)
    for part in bilm.modules():
        if isinstance(part, ProjectedLstm):
            for parameter in part.parameters():
                torch.nn.init.normal_(parameter, 0.0, 0.7, generator)
    mask = torch.arange(6) < torch.tensor([[6], [2], [0], [5]])
    tokens = torch.randn(2, 4, 6, 8, dtype=torch.float64, generator=generator)
    tokens *= mask.unsqueeze(-1)
    state = LstmState(
        torch.rand(2, 2, 4, 8, dtype=torch.float64, generator=generator) - 0.5,
        torch.rand(2, 2, 4, 24, dtype=torch.float64, generator=generator) - 0.5,
    )
    outputs, final = run_both(bilm, tokens, state, mask)
    tops = []
    for direction, stack in enumerate((bilm.forward_stack, bilm.backward_stack)):
        begin = LstmState(state.h[:, direction], state.c[:, direction])
        expected, end = stack(tokens[direction], begin, mask)
        for fast, slow in zip(outputs, expected, strict=True):
            torch.testing.assert_close(fast[direction], slow, **EXACT)
        torch.testing.assert_close(final.h[:, direction], end.h, **EXACT)
        torch.testing.assert_close(final.c[:, direction], end.c, **EXACT)
        tops.append(expected[-1])
    weights = list(bilm.parameters())
    pairs = zip(gradients(outputs[-1], weights), gradients(torch.stack(tops), weights), strict=True)
    for fast, slow in pairs:
        torch.testing.assert_close(fast, slow, **EXACT)


def test_log_sum_exp_over_negatives_is_torch_logsumexp():
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (
        torch.randn(*shape, dtype=torch.float64, generator=generator).mul_(5).requires_grad_()
        for shape in ((6, 3), (9, 3), (9,))
    )
    hits = (torch.tensor([0, 4]), torch.tensor([8, 2]))
    logits = x @ weight.t() + bias
    excluded = torch.zeros_like(logits, dtype=torch.bool)
    excluded[hits] = True
    slow = logits.masked_fill(excluded, -torch.inf).logsumexp(dim=1)
    fast = LogSumExp.apply(x, weight, bias, hits)
    torch.testing.assert_close(fast, slow, **EXACT)
    inputs = [x, weight, bias]
    for a, b in zip(gradients(fast, inputs), gradients(slow, inputs), strict=True):
        torch.testing.assert_close(a, b, **EXACT)
