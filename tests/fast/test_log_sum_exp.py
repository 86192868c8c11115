"""`fast_log_sum_exp` computes the values and gradients of `softmax.log_sum_exp`."""

import torch

from elmo_deploy.fast.log_sum_exp import fast_log_sum_exp
from elmo_deploy.training.softmax import log_sum_exp


def test_the_sum_over_negatives_equals_its_definition(assert_same_function):
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (
        torch.randn(*shape, dtype=torch.float64, generator=generator).mul_(5).requires_grad_()
        for shape in ((6, 3), (9, 3), (9,))
    )
    hits = (torch.tensor([0, 4]), torch.tensor([8, 2]))
    fast, slow = fast_log_sum_exp(x, weight, bias, hits), log_sum_exp(x, weight, bias, hits)
    assert_same_function(fast, slow, [x, weight, bias])


def test_the_definition_leaves_out_exactly_the_hits():
    x, weight, bias = torch.zeros(2, 3), torch.zeros(4, 3), torch.zeros(4)
    hits = (torch.tensor([1]), torch.tensor([2]))
    assert log_sum_exp(x, weight, bias, hits).exp().round().tolist() == [4, 3]
