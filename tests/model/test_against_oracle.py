"""The torch model computes what the independent numpy ELMo computes, output by output."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import oracle
from elmo_deploy.model.reference import reference
from random_models import clipped_checkpoint, random_checkpoint, tiny_config
from tolerances import TORCH_FLOAT32, TORCH_FLOAT64

BATCHES = [  # the second continues the states of the first
    [["The", "naïve", "日本語", "x" * 60, ""], [], ["<S>", "a"], [""]],
    [["again"], ["Ein", "Satz", "mehr"], [], ["é" * 30, "🙂", "</S>"]],
]
MODELS = {
    "published structure": {},
    "no skip": {"use_skip_connections": False},
    "one layer": {"n_layers": 1},
    "three layers": {"n_layers": 3},
    "three layers, no skip": {"n_layers": 3, "use_skip_connections": False},
    "tanh": {"activation": "tanh"},
    "no clips": {"cell_clip": None, "proj_clip": None},
    "no highway": {"n_highway": 0},
    "filters in no order, short words": {
        "filters": ((5, 3), (1, 2)),
        "max_characters_per_token": 12,
    },
}
MIX_WEIGHTS, GAMMA = np.array([[0.3, -1.0, 0.8, 0.1], [0.0, 2.0, 0.5, -0.5]]), np.array([1.5, -0.4])


def expected_outputs(judge, batches):
    """What the oracle says of the last of the batches, in the shapes of the graphs."""
    config = judge.lstm
    states = [oracle.State() for _ in batches[0]]
    for batch in batches:
        found = [
            judge.embed(sentence, state) for sentence, state in zip(batch, states, strict=True)
        ]
    length = max(map(len, batches[-1]))
    layers = [np.pad(one, [(0, 0), (0, length - one.shape[1]), (0, 0)]) for one in found]
    outputs = {"word_emb": [one[0, :, : config["projection_dim"]] for one in layers]}
    for number in range(1, config["n_layers"] + 1):
        outputs[f"lstm_outputs{number}"] = [one[number] for one in layers]
    mixes = [
        (weights[: config["n_layers"] + 1], gamma)
        for weights, gamma in zip(MIX_WEIGHTS, GAMMA, strict=True)
    ]
    outputs["elmo"] = [[oracle.mix(one, *of) for one in layers] for of in mixes]
    outputs["default"] = [[oracle.pooled(oracle.mix(one, *of)) for one in found] for of in mixes]
    keys = [[(side, depth) for side in (0, 1)] for depth in range(config["n_layers"])]
    outputs["final_h"] = [[[state.h[key] for state in states] for key in row] for row in keys]
    outputs["final_c"] = [[[state.c[key] for state in states] for key in row] for row in keys]
    return {name: np.array(value) for name, value in outputs.items()}


def model_outputs(checkpoint, batches, dtype=torch.float32):
    """What the model says of the last of the batches, the state carried from one to the next."""
    config = checkpoint.config
    run = reference(checkpoint, dtype=dtype)
    rows = (config.n_layers, 2, len(batches[0]))
    state = {
        "initial_h": np.zeros((*rows, config.projection_dim)),
        "initial_c": np.zeros((*rows, config.lstm_dim)),
    }
    for batch in batches:
        outputs = run(
            char_ids=oracle.padded_ids(batch, config.max_characters_per_token),
            lengths=np.array([len(sentence) for sentence in batch], np.int32),
            mix_weights=MIX_WEIGHTS[:, : config.n_layers + 1],
            gamma=GAMMA,
            **state,
        )
        state = {"initial_h": outputs["final_h"], "initial_c": outputs["final_c"]}
    return outputs


def largest_difference(found, expected):
    assert found.keys() == expected.keys()
    assert all(found[name].shape == expected[name].shape for name in expected)
    return max(np.abs(found[name] - expected[name]).max() for name in expected)


@pytest.mark.parametrize("changes", MODELS.values(), ids=MODELS)
def test_every_output_is_the_oracles(changes, oracle_of):
    checkpoint = random_checkpoint(tiny_config(**changes), seed=1)
    expected = expected_outputs(oracle_of(checkpoint), BATCHES)
    assert largest_difference(model_outputs(checkpoint, BATCHES), expected) <= TORCH_FLOAT32
    exact = model_outputs(checkpoint, BATCHES, torch.float64)
    assert largest_difference(exact, expected) <= TORCH_FLOAT64


def test_clips_that_bind_often_bind_as_in_the_oracle(oracle_of):
    judge = oracle_of(clipped_checkpoint())
    expected = expected_outputs(judge, BATCHES)
    found = model_outputs(clipped_checkpoint(), BATCHES)
    assert largest_difference(found, expected) <= TORCH_FLOAT32
    assert judge.clipped.share("cell_clip") > 0.05
    assert judge.clipped.share("proj_clip") > 0.05


@pytest.mark.parametrize("which", ["cell_clip", "proj_clip"])
def test_a_model_without_one_of_the_clips_would_be_found_out(which, oracle_of):
    right = clipped_checkpoint()
    faulty = replace(right, config=replace(right.config, **{which: None}))
    expected = expected_outputs(oracle_of(right), BATCHES)
    assert largest_difference(model_outputs(faulty, BATCHES), expected) > 1000 * TORCH_FLOAT32
