"""Updates, clipping and schedules against their formulas and torch's own."""

import math

import pytest
import torch

from elmo_deploy.training.optimizer import (
    Adagrad,
    AdamW,
    clip_to_global_norm,
    learning_rate_at,
)
from elmo_deploy.training.softmax import RowGradient


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_adagrad_divides_by_the_root_of_all_squares_from_the_initial_accumulator_on():
    weight = torch.tensor([1.0, 2.0])
    adagrad = Adagrad({"w": weight}, initial_accumulator=1.0)
    adagrad.step({"w": torch.tensor([3.0, 0.0])}, 0.2)
    adagrad.step({"w": torch.tensor([4.0, 0.0])}, 0.2)
    expected = 1 - 0.2 * 3 / math.sqrt(1 + 9) - 0.2 * 4 / math.sqrt(1 + 9 + 16)
    assert weight.tolist() == pytest.approx([expected, 2.0])


def test_rows_learn_exactly_as_the_dense_gradient_with_zeros():
    weights = [drawn(6, 3), drawn(6, 3)]
    gradient = RowGradient(torch.tensor([1, 4]), drawn(2, 3, seed=1))
    optimizers = [Adagrad({"w": weight}, initial_accumulator=1.0) for weight in weights]
    for _ in range(3):
        optimizers[0].step({"w": gradient}, 0.2)
        optimizers[1].step({"w": gradient.dense(weights[1])}, 0.2)
    torch.testing.assert_close(weights[0], weights[1])
    assert torch.equal(weights[0][0], drawn(6, 3)[0])


def test_adamw_is_torchs():
    own, torchs = drawn(5, 3), drawn(5, 3).requires_grad_()
    adamw = AdamW({"w": own}, weight_decay=0.1)
    reference = torch.optim.AdamW([torchs], lr=0.01, weight_decay=0.1)
    for step in range(5):
        torchs.grad = drawn(5, 3, seed=step)
        reference.step()
        adamw.step({"w": drawn(5, 3, seed=step)}, 0.01)
    torch.testing.assert_close(own, torchs.detach())


@pytest.mark.parametrize("limit", [0.5, 100.0, None])
def test_the_clip_takes_one_norm_over_dense_and_row_gradients(limit):
    dense, rows = drawn(4, 2), RowGradient(torch.tensor([0, 3]), drawn(2, 3, seed=1))
    parameters = [torch.zeros(4, 2), torch.zeros(9, 3)]
    parameters[0].grad, parameters[1].grad = dense.clone(), rows.dense(parameters[1])
    expected = torch.nn.utils.clip_grad_norm_(parameters, limit or math.inf)
    norm = clip_to_global_norm({"a": dense, "b": rows}, limit)
    torch.testing.assert_close(norm, expected)
    torch.testing.assert_close(dense, parameters[0].grad)
    torch.testing.assert_close(rows.dense(parameters[1]), parameters[1].grad)


@pytest.mark.parametrize(
    ("decay", "expected"),
    [
        ("constant", [0.05, 0.1, 0.2, 0.2, 0.2]),
        ("linear", [0.05, 0.1, 0.2, 0.1, 0.0]),
        ("cosine", [0.05, 0.1, 0.2, 0.1, 0.0]),
        ("inverse_sqrt", [0.05, 0.1, 0.2 * math.sqrt(4 / 5), 0.2 * 0.5, 0.2 * math.sqrt(4 / 28)]),
    ],
)
def test_the_learning_rate_rises_and_then_decays(options, decay, expected):
    recipe = options(warmup_steps=4, decay=decay)
    rates = [learning_rate_at(step, 28, recipe) for step in (1, 2, 5, 16, 28)]
    # Step 17 of 5..28 is the middle; the last step still learns a little.
    assert rates == pytest.approx(expected, abs=0.02)
    assert all(0 < rate <= 0.2 for rate in rates)
