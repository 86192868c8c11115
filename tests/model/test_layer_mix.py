"""The weighted mean of layers, its norm and its regularizer."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import oracle
from elmo_deploy.model import Elmo
from elmo_deploy.model.layer_mix import LayerMix, normalize
from elmo_deploy.model.pooling import mean_over_tokens
from elmo_runtime.errors import InputError
from random_models import random_checkpoint, tiny_config
from tolerances import TORCH_FLOAT32

SENTENCES = [["A", "longer", "sentence"], ["short"], []]


def test_a_mix_starts_as_the_plain_mean():
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


def test_the_regularizer_holds_the_weights_and_not_gamma():
    mix = LayerMix(3)
    with torch.no_grad():
        mix.weights[0] = torch.tensor([1.0, -2.0, 0.0])
    loss = mix.regularizer(0.001)
    assert loss.item() == pytest.approx(0.005)
    loss.backward()
    assert mix.gamma.grad is None


def test_layer_norm_takes_its_statistics_over_the_real_tokens_of_a_sentence(oracle_of):
    """They were those of the batch, so that a sentence's vectors depended on the others in it."""
    checkpoint = random_checkpoint(tiny_config())
    model = Elmo.from_checkpoint(checkpoint, do_layer_norm=True)
    with torch.no_grad():
        found = model(torch.tensor(oracle.padded_ids(SENTENCES))).elmo[0].numpy()
    judge = oracle_of(checkpoint)
    for row, sentence in enumerate(SENTENCES):
        length = len(sentence)
        if sentence:
            expected = oracle.mix(oracle.layer_normalized(judge.embed(sentence)), [0, 0, 0], 1.0)
            assert np.abs(found[row, :length] - expected).max() <= TORCH_FLOAT32
        assert not found[row, length:].any()


def test_mixes_with_and_without_layer_norm_share_a_model():
    layers = [torch.tensor([[[1.0, 3.0]]]), torch.tensor([[[5.0, 9.0]]])]
    mix = LayerMix(2, n_mixes=2, do_layer_norm=[True, False])
    normalized, plain = mix(layers, torch.ones(1, 1, dtype=torch.bool))
    torch.testing.assert_close(normalized, torch.tensor([[[-1.0, 1.0]]]))
    torch.testing.assert_close(plain, torch.tensor([[[3.0, 6.0]]]))


def test_there_is_one_layer_norm_flag_per_mix():
    with pytest.raises(InputError, match="2 flags for 3 layer mixes"):
        LayerMix(2, n_mixes=3, do_layer_norm=[True, False])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_layer_norm_sums_in_float32(dtype):
    """From 64 tokens of width 1024 the count was infinite in FP16 and every vector NaN."""
    layer = torch.randn(2, 70, 1024, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(2, 70, dtype=torch.bool)
    expected, found = normalize(layer, mask), normalize(layer.to(dtype), mask)
    assert found.dtype == dtype
    assert found.isfinite().all()
    torch.testing.assert_close(found.float(), expected, atol=0.03, rtol=0)


def test_pooling_sums_in_float32():
    """In FP16 the sum over 30,000 tokens was infinite, and so was the mean."""
    vectors = torch.full((1, 30_000, 4), 2.5, dtype=torch.float16)
    mean = mean_over_tokens(vectors, torch.ones(1, 30_000, dtype=torch.bool))
    assert torch.equal(mean, torch.full((1, 4), 2.5, dtype=torch.float16))


def test_layer_norm_of_a_batch_without_tokens_is_zero():
    model = Elmo(tiny_config(), do_layer_norm=True)
    assert not model(torch.zeros(2, 3, 50, dtype=torch.int32)).elmo[0].any()
