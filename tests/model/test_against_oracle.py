"""The torch model computes what the independent numpy ELMo computes, output by output."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import oracle
from elmo_deploy.model.reference import reference
from oracle_cases import (
    BATCHES,
    GAMMA,
    MIX_WEIGHTS,
    MODELS,
    expected_outputs,
    largest_difference,
)
from random_models import clipped_checkpoint, random_checkpoint, tiny_config
from tolerances import TORCH_FLOAT32, TORCH_FLOAT64


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
