"""The weighted mean of layers, its norm and its regulariser."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import oracle
from elmo_deploy.model import Elmo
from elmo_deploy.model.layer_mix import LayerMix
from random_models import random_checkpoint, tiny_config
from tolerances import TORCH_FLOAT32

SENTENCES = [["A", "longer", "sentence"], ["short"], []]


def test_it_starts_as_the_plain_mean():
    layers = [torch.full((1, 1, 4), value) for value in (1.0, 2.0, 6.0)]
    [mixed] = LayerMix(3)(layers, torch.ones(1, 1, dtype=torch.bool))
    assert torch.equal(mixed, torch.full((1, 1, 4), 3.0))


def test_mixes_are_independent():
    mix = LayerMix(2, n_mixes=2)
    with torch.no_grad():
        mix.weights[0], mix.gamma[0] = torch.tensor([0.0, -1000.0]), 5.0
    layers = [torch.ones(1, 1, 4), torch.full((1, 1, 4), 3.0)]
    first, second = mix(layers, torch.ones(1, 1, dtype=torch.bool))
    assert torch.equal(first, torch.full((1, 1, 4), 5.0))
    assert torch.equal(second, torch.full((1, 1, 4), 2.0))


def test_the_regulariser_holds_the_weights_and_not_gamma():
    mix = LayerMix(3)
    with torch.no_grad():
        mix.weights[0] = torch.tensor([1.0, -2.0, 0.0])
    loss = mix.regulariser(0.001)
    assert loss.item() == pytest.approx(0.005)
    loss.backward()
    assert mix.gamma.grad is None


def test_layer_norm_takes_its_statistics_over_the_real_tokens_of_the_batch(oracle_of):
    checkpoint = random_checkpoint(tiny_config())
    model = Elmo.from_checkpoint(checkpoint, do_layer_norm=True)
    with torch.no_grad():
        found = model(torch.tensor(oracle.padded_ids(SENTENCES))).elmo[0].numpy()
    judge = oracle_of(checkpoint)
    normalised = oracle.layer_normalised([judge.embed(sentence) for sentence in SENTENCES])
    for row, layers in enumerate(normalised):
        expected = oracle.mix(layers, [0, 0, 0], 1.0)
        assert np.abs(found[row, : len(expected)] - expected).max(initial=0) <= TORCH_FLOAT32
        assert not found[row, len(expected) :].any()


def test_layer_norm_of_a_batch_without_tokens_is_zero():
    model = Elmo(tiny_config(), do_layer_norm=True)
    assert not model(torch.zeros(2, 3, 50, dtype=torch.int32)).elmo[0].any()
