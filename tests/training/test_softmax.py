"""Sampled softmax: the draws, their correction, and the rows that learn."""

import math

import numpy as np
import pytest
import torch

from elmo_deploy.training.softmax import (
    Negatives,
    SampledSoftmax,
    Softmax,
    draw_negatives,
    log_expected_count,
)
from elmo_runtime.errors import ConfigError

SIZE, WIDTH = 50, 4


@pytest.fixture
def softmax():
    softmax = Softmax(SIZE, WIDTH)
    softmax.reset_parameters(torch.Generator().manual_seed(0))
    torch.nn.init.normal_(softmax.bias, generator=torch.Generator().manual_seed(1))
    return softmax


def test_negatives_are_distinct_and_cover_the_vocabulary():
    drawn = [draw_negatives(20, SIZE, np.random.default_rng(seed)) for seed in range(200)]
    assert all(len(set(negatives.ids)) == 20 for negatives in drawn)
    assert set(np.concatenate([negatives.ids for negatives in drawn])) == set(range(SIZE))
    assert all(negatives.draws >= 20 for negatives in drawn)


def test_a_word_is_drawn_as_often_as_its_expected_count_says():
    """The count of draws varies from time to time, so the mean over it is what must agree."""
    random = np.random.default_rng(0)
    seen, expected = np.zeros(SIZE), np.zeros(SIZE)
    rounds = 4000
    for _ in range(rounds):
        negatives = draw_negatives(20, SIZE, random)
        seen[negatives.ids] += 1
        expected += log_expected_count(torch.arange(SIZE), negatives.draws, SIZE).exp().numpy()
    # The standard deviation of a frequency is below 0.5 / sqrt(4000) = 0.008; the rule itself is
    # an approximation (the draws stop at a success), off by up to 0.01.
    assert np.abs(seen - expected).max() / rounds < 0.03
    assert seen[0] / rounds > 0.97
    assert expected[-1] / rounds < 0.4


def test_more_negatives_than_words_are_refused():
    with pytest.raises(ConfigError, match="batch is 50, but the vocabulary has only 50"):
        draw_negatives(50, SIZE, np.random.default_rng(0))


def by_hand(softmax, hidden, target, negatives):
    """The loss of one position in plain numpy, as the sampled softmax is defined."""
    weight, bias = softmax.weight.detach().numpy(), softmax.bias.detach().numpy()

    def logit(word):
        probability = math.log((word + 2) / (word + 1)) / math.log(SIZE + 1)
        expected = 1 - (1 - probability) ** negatives.draws
        return weight[word] @ hidden.numpy() + bias[word] - math.log(expected)

    others = [logit(word) for word in negatives.ids if word != target]
    return -logit(target) + math.log(sum(map(math.exp, [logit(target), *others])))


def test_the_loss_is_the_corrected_cross_entropy_without_accidental_hits(softmax):
    hidden = torch.randn(2, 3, WIDTH, generator=torch.Generator().manual_seed(2))
    targets = torch.tensor([[[7, 0, 30]], [[1, 7, 49]]])
    negatives = [Negatives(np.array([0, 7, 2, 11]), 9), Negatives(np.array([5, 1, 0, 3]), 6)]
    sampled = SampledSoftmax(softmax, targets, negatives)
    for direction in range(2):
        loss = sampled.loss(hidden[direction], direction)
        expected = [
            by_hand(softmax, vector, target, negatives[direction])
            for vector, target in zip(
                hidden[direction], targets[direction, 0].tolist(), strict=True
            )
        ]
        assert loss.tolist() == pytest.approx(expected, rel=1e-5)


def test_only_used_rows_get_a_gradient_and_it_is_complete(softmax):
    """The same loss over the dense weights, by autograd only, has the same gradient."""
    hidden = torch.randn(2, 3, WIDTH, generator=torch.Generator().manual_seed(2))
    targets = torch.tensor([[[7, 0, 7]], [[1, 7, 49]]])
    negatives = [Negatives(np.array([0, 7, 2, 11]), 9), Negatives(np.array([5, 1, 0, 3]), 6)]
    sampled = SampledSoftmax(softmax, targets, negatives)
    sum(sampled.loss(hidden[d], d).sum() for d in range(2)).backward()
    dense = torch.tensor(0.0)
    for d in range(2):
        ids = torch.from_numpy(negatives[d].ids)
        correction = log_expected_count(torch.arange(SIZE), negatives[d].draws, SIZE).float()
        logits = hidden[d] @ softmax.weight.t() + softmax.bias - correction
        counted = torch.zeros_like(logits, dtype=torch.bool)
        counted[:, ids] = True
        counted[torch.arange(3), targets[d, 0]] = True
        masked = logits.masked_fill(~counted, -torch.inf)
        dense = dense + torch.nn.functional.cross_entropy(masked, targets[d, 0], reduction="sum")
    dense.backward()
    for name, parameter in softmax.named_parameters():
        gradient = sampled.gradients()[f"softmax.{name}"]
        assert gradient.rows.tolist() == [0, 1, 2, 3, 5, 7, 11, 49]
        torch.testing.assert_close(gradient.dense(parameter), parameter.grad)
