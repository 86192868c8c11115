"""States of rows, and the warm state of a bundle."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from safetensors.numpy import save

from elmo_runtime.bundle.manifest import Bundle
from elmo_runtime.errors import BundleError, BundleVersionError, InputError
from elmo_runtime.state import WARM_STATE, State, checked_state, read_warm
from guarantee_kit.corruption import replace_file
from random_models import tiny_config

CONFIG = tiny_config()


def a_state(rows: int, seed: int = 0) -> State:
    generator = np.random.default_rng(seed)
    zeros = State.zeros(CONFIG, rows)
    return State(
        *(generator.normal(size=part.shape).astype(np.float32) for part in (zeros.h, zeros.c))
    )


def test_a_larger_batch_adds_zero_rows():
    state = a_state(2).first(3)
    assert (state.h[:, :, :2] == a_state(2).h).all()
    assert not state.h[:, :, 2].any() and not state.c[:, :, 2].any()


def test_a_smaller_batch_takes_the_first_rows_and_leaves_the_rest():
    before, after = a_state(3), a_state(2, seed=1)
    state = before.followed_by(after)
    assert (state.c[:, :, :2] == after.c).all()
    assert (state.c[:, :, 2] == before.c[:, :, 2]).all()


@pytest.mark.parametrize(
    ("state", "named"),
    [
        ("zero", "state is a str"),
        (State(a_state(2).h, a_state(3).c), "state.c has shape"),
        (State(a_state(2).h[0], a_state(2).c), "state.h has shape"),
        (State(a_state(2).h.astype(float), a_state(2).c), "state.h must be a float32"),
        (State(a_state(2).h, None), "state.c must be a float32"),
        (State(a_state(2).h * np.nan, a_state(2).c), "state.h contains a value"),
        # No call can leave a state beyond its clips; the int8 form clamped such an h in silence.
        (State(a_state(2).h + 9, a_state(2).c), "state.h holds .*, beyond the clip 3 of this"),
        (State(a_state(2).h * 0, a_state(2).c - 9), "state.c holds .*, beyond the clip 3 of this"),
    ],
)
def test_a_state_that_no_call_returned_is_refused(state, named):
    with pytest.raises(InputError, match=named):
        checked_state(state, CONFIG)


def test_the_warm_state_of_a_bundle_is_one_row(bundle):
    assert read_warm(Bundle.open(bundle)).rows == 1


@pytest.fixture
def bundle_with_state(bundle, tmp_path):
    """A copy of the bundle whose warm state is replaced, or removed."""

    def make(tensors: dict[str, np.ndarray] | None) -> Bundle:
        folder = shutil.copytree(bundle, tmp_path / "bundle")
        replace_file(folder, WARM_STATE, None if tensors is None else save(tensors))
        return Bundle.open(folder)

    return make


def test_a_bundle_without_a_warm_state_says_so(bundle_with_state):
    with pytest.raises(BundleError, match='use state="zero"'):
        read_warm(bundle_with_state(None))


@pytest.mark.parametrize(
    "tensors", [{"h": np.zeros((2, 2, 8), np.float32)}, {"h": np.zeros(3), "c": np.zeros(3)}]
)
def test_a_warm_state_of_another_model_is_refused(bundle_with_state, tensors):
    with pytest.raises(BundleVersionError, match="not a warm state"):
        read_warm(bundle_with_state(tensors))
