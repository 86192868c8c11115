"""`convolve_at_once` computes the values and gradients of `CharCnn.convolve`."""

import numpy as np
import pytest
import torch

from elmo_deploy.fast.convolution import convolve_at_once
from elmo_deploy.model.char_cnn import CharCnn
from elmo_runtime.characters import char_ids
from random_models import tiny_config

# Each width leaves room for one window of padding after the words.
WORDS_OF_WIDTH = {12: ["a", "aa", "aaaa"], 16: ["banana", "nana"], 28: ["<S>", "é" * 9, "x" * 20]}


def ids(words, width=50):
    return torch.from_numpy(char_ids(words)[:, :width].astype(np.int64))


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_all_convolutions_at_once_equal_the_convolutions(activation, assert_same_function):
    cnn = CharCnn(tiny_config(activation=activation)).double()
    cnn.reset_parameters(torch.Generator().manual_seed(0))
    slow = [cnn.convolve(cnn.embed(ids(words))) for words in WORDS_OF_WIDTH.values()]
    fast = convolve_at_once(cnn, [ids(words, width) for width, words in WORDS_OF_WIDTH.items()])
    assert_same_function(fast, torch.cat(slow), [cnn.embedding, *cnn.convolutions.parameters()])
