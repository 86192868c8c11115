"""The processor's best rates of matrix products and memory reads, and the work of a load.

They are measured together with the systems, to express a time as a share of the best possible.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from elmo_deploy.benchmark.loads import Load, Sentence
from elmo_runtime.characters import BOUNDARY_TOKENS, char_ids, trim
from elmo_runtime.config import ElmoConfig

GEMM_SIZE = 1024
READ_BYTES = 64 << 20  # per thread; more than the caches hold
SECONDS, LEAST_REPEATS = 0.3, 3
FLOAT_BYTES = 4


def product_rate() -> float:
    """Floating-point operations per second of a large FP32 matrix product on all cores."""
    a = np.random.default_rng(0).standard_normal((GEMM_SIZE, GEMM_SIZE), dtype=np.float32)
    out = np.empty_like(a)
    return 2 * GEMM_SIZE**3 / _fastest(lambda: np.matmul(a, a, out=out))


def read_rate(threads: int) -> float:
    """Bytes per second that all cores together read from memory."""
    parts = [np.ones(READ_BYTES // FLOAT_BYTES, np.float32) for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        return threads * READ_BYTES / _fastest(lambda: list(pool.map(np.max, parts)))


def operations_of(config: ElmoConfig, load: Load) -> float:
    """The minimum operations of one pass: distinct words once per call, no padding."""
    steps = load.n_tokens + len(BOUNDARY_TOKENS) * load.n_sentences
    in_words = sum(_word_operations(config, call) for call in load.calls)
    return in_words + steps * 2 * 2 * _recurrent_weights(config, inputs=1)


def read_bytes_of(config: ElmoConfig, load: Load) -> float:
    """Bytes of FP32 weights that one pass reads if no weight stays in a cache.

    It reads recurrent weights at every step of the longest sentence, the others once per call.
    """
    steps = sum(max(map(len, call)) + len(BOUNDARY_TOKENS) for call in load.calls)
    once = _word_weights(config) + 2 * (
        _recurrent_weights(config, inputs=1) - _recurrent_weights(config, inputs=0)
    )
    numbers = steps * 2 * _recurrent_weights(config, inputs=0) + len(load.calls) * once
    return float(FLOAT_BYTES * numbers)


def _recurrent_weights(config: ElmoConfig, *, inputs: int) -> int:
    """The number of weights of all layers of one direction; `inputs` 1 adds the input weights."""
    P, C = config.projection_dim, config.lstm_dim
    return config.n_layers * ((1 + inputs) * P * 4 * C + C * P)


def _word_weights(config: ElmoConfig) -> int:
    F = config.n_filters
    convolutions = sum(width * count for width, count in config.filters)
    linear = 2 * config.n_highway * F * F + F * config.projection_dim
    return convolutions * config.char_embedding_dim + linear


def _word_operations(config: ElmoConfig, call: Sequence[Sentence]) -> float:
    """Operations of a call's distinct words: one window at each position that is not cut off."""
    words = {token for sentence in call for token in sentence}
    longest = char_ids([*words], max_characters=config.max_characters_per_token)
    size = trim(longest, max(width for width, _ in config.filters)).shape[1]
    windows = sum((size - width + 1) * width * count for width, count in config.filters)
    F = config.n_filters
    linear = 2 * config.n_highway * F * F + F * config.projection_dim
    each = 2.0 * (windows * config.char_embedding_dim + linear)
    return float((len(words) + len(BOUNDARY_TOKENS)) * each)


def _fastest(work: Callable[[], object]) -> float:
    """Seconds of the fastest repetition; the others only add noise."""
    work()
    times: list[float] = []
    while len(times) < LEAST_REPEATS or sum(times) < SECONDS:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)
