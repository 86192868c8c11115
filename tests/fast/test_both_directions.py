"""`run_both` computes the values and gradients of `BiLm.run_stacks`."""

import torch

from elmo_deploy.fast.both_directions import run_both
from elmo_deploy.model.bilm import BiLm
from elmo_deploy.model.lstm import LstmState
from random_models import tiny_config


def test_both_directions_together_equal_the_two_stacks(assert_same, assert_same_function):
    bilm = BiLm(tiny_config(cell_clip=0.3, proj_clip=0.3)).double()
    generator = torch.Generator().manual_seed(0)
    for parameter in bilm.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.7, generator)
    mask = torch.arange(6) < torch.tensor([[6], [2], [0], [5]])
    tokens = torch.randn(2, 4, 6, 8, dtype=torch.float64, generator=generator)
    tokens *= mask.unsqueeze(-1)
    state = LstmState(
        torch.rand(2, 2, 4, 8, dtype=torch.float64, generator=generator) - 0.5,
        torch.rand(2, 2, 4, 24, dtype=torch.float64, generator=generator) - 0.5,
    )
    fast, fast_final = run_both(bilm, tokens, state, mask)
    slow, slow_final = bilm.run_stacks(tokens, state, mask)
    assert_same([*fast, *fast_final], [*slow, *slow_final])
    assert_same_function(fast[-1], slow[-1], bilm.parameters())
