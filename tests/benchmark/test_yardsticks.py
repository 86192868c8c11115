"""What a load asks of the processor, counted from the paper's sizes."""

from __future__ import annotations

import pytest

from elmo_deploy.benchmark.loads import grid_load
from elmo_deploy.benchmark.yardsticks import operations_of, product_rate, read_bytes_of
from elmo_runtime.config import ElmoConfig
from random_models import tiny_config

ORIGINAL = tiny_config(
    projection_dim=512,
    lstm_dim=4096,
    char_embedding_dim=16,
    filters=((1, 32), (2, 32), (3, 64), (4, 128), (5, 256), (6, 512), (7, 1024)),
)
WORD = "a" * 48  # so long that no column of characters can be cut off


def per_token(config: ElmoConfig, n_tokens: int) -> float:
    """Operations of each token of one sentence; the two marks fade with its length."""
    sentence = tuple(WORD[:-3] + f"{n:03}" for n in range(n_tokens))
    return operations_of(config, grid_load(1, n_tokens, [sentence])) / n_tokens


def test_a_token_of_the_original_size_costs_204_million_operations():
    assert per_token(ORIGINAL, 400) == pytest.approx(204.3e6 * 402 / 400, rel=1e-3)


def test_a_word_that_comes_again_costs_only_the_lstms():
    again = operations_of(ORIGINAL, grid_load(1, 2, [(WORD, WORD)]))
    apart = operations_of(ORIGINAL, grid_load(1, 2, [(WORD, WORD[1:] + "b")]))
    assert apart - again == pytest.approx(53.27e6, rel=1e-3)


def test_every_step_reads_the_recurrent_weights():
    short = read_bytes_of(ORIGINAL, grid_load(1, 5, [("a",)]))
    long = read_bytes_of(ORIGINAL, grid_load(1, 6, [("a",)]))
    assert long - short == 4 * 2 * 2 * (512 * 4 * 4096 + 4096 * 512)


def test_a_batch_reads_them_once_for_all_its_sentences():
    one = read_bytes_of(ORIGINAL, grid_load(1, 5, [("a",)]))
    many = read_bytes_of(ORIGINAL, grid_load(32, 5, [("a",)]))
    assert one == many


def test_the_rate_of_products_is_that_of_a_processor():
    assert 1e8 < product_rate() < 1e14
