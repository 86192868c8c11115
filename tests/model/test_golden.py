"""The torch model gives the vectors that the authors published, with carried states."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import oracle
from elmo_deploy.importers.bilm_hdf5 import import_hdf5
from elmo_deploy.model import Elmo
from golden import GOLDEN
from tolerances import GOLDEN_TORCH


def largest_error(golden, shared_data, carry=True):
    model = Elmo.from_checkpoint(import_hdf5(*golden.files(shared_data)))
    state, errors = None, []
    steps = zip(golden.batches(shared_data), golden.top_layers(shared_data), strict=True)
    for batch, expected in steps:
        with torch.no_grad():
            out = model(torch.tensor(oracle.padded_ids(batch)), state)
        state = out.state if carry else None
        for row, vectors in expected.items():
            found = out.layers[-1][row, : len(vectors)].numpy()
            errors.append(np.abs(found - vectors).max())
    assert len(errors) == 10 * len(golden.rows)
    return max(errors)


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.folder)
def test_the_model_gives_the_golden_vectors(golden, shared_data):
    assert largest_error(golden, shared_data) <= GOLDEN_TORCH


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.folder)
def test_the_golden_vectors_depend_on_the_carried_state(golden, shared_data):
    """Negative control: from the zero state each time, the errors are large."""
    assert largest_error(golden, shared_data, carry=False) > 1000 * GOLDEN_TORCH


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.folder)
def test_the_oracle_gives_the_golden_vectors(golden, shared_data):
    judge = oracle.Oracle.read(*golden.files(shared_data))
    for row in golden.rows:
        state, errors = oracle.State(), []
        steps = zip(golden.batches(shared_data), golden.top_layers(shared_data), strict=True)
        for batch, expected in steps:
            errors.append(np.abs(judge.embed(batch[row], state)[-1] - expected[row]).max())
        assert max(errors) <= GOLDEN_TORCH
