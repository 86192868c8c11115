"""What trains, and that its gradients are those of the published formulas."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import oracle
from elmo_deploy.model import Elmo
from random_models import clipped_checkpoint, random_checkpoint, tiny_config
from tolerances import SLOPE_RELATIVE

SENTENCES = [["The", "cat", "日本語"], ["sat"], []]
STEP = 1e-6


def test_by_default_only_the_layer_mix_trains():
    model = Elmo.from_checkpoint(random_checkpoint(tiny_config()))
    model(torch.tensor(oracle.padded_ids(SENTENCES))).default[0].sum().backward()
    trained = {name for name, weight in model.named_parameters() if weight.grad is not None}
    assert trained == {"layer_mix.weights", "layer_mix.gamma"}


def test_with_requires_grad_every_weight_gets_a_gradient():
    model = Elmo.from_checkpoint(random_checkpoint(tiny_config()), requires_grad=True)
    out = model(torch.tensor(oracle.padded_ids(SENTENCES)))
    (out.elmo[0].square().sum() + out.default[0].sum()).backward()
    idle = [n for n, weight in model.named_parameters() if not weight.grad.abs().sum() > 0]
    assert idle == []


def test_fine_tuning_lowers_the_loss_and_moves_the_bilm():
    model = Elmo.from_checkpoint(random_checkpoint(tiny_config()), requires_grad=True)
    before = model.bilm.forward_stack.layers[0].input_weight.clone()
    ids = torch.tensor(oracle.padded_ids([["good"], ["bad"], ["good", "film"], ["bad", "film"]]))
    target = torch.tensor([1.0, -1.0, 1.0, -1.0])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = (model(ids).default[0][:, 0] - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
    assert not torch.equal(before, model.bilm.forward_stack.layers[0].input_weight)


def test_dropout_acts_on_the_input_of_each_layer_and_of_its_skip_connection():
    """The residual adds the dropped input: where it was dropped, the sum is the layer's own."""
    stack = Elmo(tiny_config(proj_clip=0.5), lstm_input_dropout=0.5).bilm.forward_stack.train()
    for layer in stack.layers:
        torch.nn.init.zeros_(layer.projection_weight)  # each layer's own output is 0
    torch.nn.init.constant_(stack.layers[0].projection_weight, 1.0)
    seen = []
    stack.layers[1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model_state = Elmo(tiny_config()).bilm.zero_state(torch.zeros(3, 1, 8))
    state = type(model_state)(model_state.h[:, 0], model_state.c[:, 0])
    outputs, _ = stack(torch.ones(3, 9, 8), state)
    assert torch.equal(outputs[1], seen[0])
    assert 0 < (seen[0] == 0).float().mean() < 1


def oracle_loss(judge, weights):
    mixes = [oracle.mix(judge.embed(s), [0.0, 0.0, 0.0], 1.0) for s in SENTENCES]
    return sum((mixed * weights[: len(mixed)]).sum() for mixed in mixes)


def model_gradients(checkpoint, weights):
    """The gradient of the same loss, as a checkpoint: a gradient has the shape of its weight."""
    model = Elmo.from_checkpoint(checkpoint, requires_grad=True).double()
    mixed = model(torch.tensor(oracle.padded_ids(SENTENCES))).elmo[0]
    (mixed * torch.tensor(weights)).sum().backward()
    named = dict(model.named_parameters())
    return replace(
        checkpoint, tensors={name: named[name].grad.numpy() for name in checkpoint.tensors}
    )


@pytest.mark.parametrize(
    "checkpoint",
    [random_checkpoint(tiny_config(activation="tanh"), seed=3), clipped_checkpoint()],
    ids=["clips rarely bind", "clips often bind"],
)
def test_gradients_are_the_slopes_of_the_oracle(checkpoint, oracle_of):
    """Along a random direction of each dataset: one number that every gradient in it enters."""
    generator = np.random.default_rng(0)
    weights = generator.normal(size=(3, 16))
    gradients = oracle_of(model_gradients(checkpoint, weights)).weights
    judge = oracle_of(checkpoint)
    for dataset, gradient in gradients.items():
        direction, start = generator.normal(size=gradient.shape), judge.weights[dataset]
        losses = []
        for step in (STEP, -STEP):
            judge.weights[dataset] = start + step * direction
            losses.append(oracle_loss(judge, weights))
        judge.weights[dataset] = start
        slope, size = (losses[0] - losses[1]) / (2 * STEP), np.linalg.norm(gradient)
        assert size > 0, dataset
        assert abs((gradient * direction).sum() - slope) <= SLOPE_RELATIVE * size, dataset
