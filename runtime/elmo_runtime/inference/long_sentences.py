"""A sentence too long for one batch, computed in segments: the same vectors in bounded memory.

The forward and the backward LSTMs read the sentence independently of each other, so each carries
its state over the segments in its own direction: forward from the left, backward from the right. A
segment gives both halves of its vectors, and the half with the carried state is kept, so that a
long sentence costs a little more than twice the work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from elmo_runtime.inference.batching import BEGIN, END, IndexedWords
from elmo_runtime.inference.word_cache import Word
from elmo_runtime.mixes import Mixes, mix_layers
from elmo_runtime.outputs import FloatArray, Output
from elmo_runtime.state import State

FORWARD, BACKWARD = 0, 1  # axis 1 of a state; the halves of a vector have the same order
FINAL_STATES = ("final_h", "final_c")
SMALLEST = 16  # positions of a segment
Computed = dict[str, FloatArray]
Run = Callable[[IndexedWords, Sequence[str], State], Computed]
Places = slice  # start and stop in the sentence with its boundary tokens


def compute_long_sentence(
    sentence: Sequence[Word],
    names: Sequence[str],
    start: State,
    *,
    budget: int,
    layer_names: Sequence[str],
    mixes: Mixes,
    run: Run,
) -> Computed:
    """The result of `run` for a batch of this one sentence, bit-identical if `run` is exact.

    budget: the maximum number of positions of a call, which computes two rows. start: a state of
    one row. Mixes with layer norm need the entire sentence, so they are computed here, up to
    rounding.
    """
    marked = (BEGIN, *sentence, END)
    size = max(budget // 2, SMALLEST)
    wanted = [name for name in names if name not in (Output.DEFAULT, *FINAL_STATES)]
    if Output.DEFAULT in names and Output.ELMO not in wanted:
        wanted.append(Output.ELMO)
    layers = (Output.WORD_EMB, *layer_names)
    if mixes_here := mixes.normalizes and Output.ELMO in wanted:
        wanted = list(dict.fromkeys([*(name for name in wanted if name != Output.ELMO), *layers]))
    computed: Computed = {}
    for direction in (FORWARD, BACKWARD):
        state = start
        for window, inner in _windows(len(marked), size, direction):
            rows = [marked[places] for places in (window, inner) if places]
            two = state.take(np.zeros(len(rows), np.intp))
            out = run(IndexedWords.of_marked(rows), (*wanted, *FINAL_STATES), two)
            for name in wanted:
                _keep_half(computed, name, out[name], window, direction, len(sentence))
            state = State(*(out[name][:, :, -1:] for name in FINAL_STATES))
        for name, part in zip(FINAL_STATES, (state.h, state.c), strict=True):
            computed.setdefault(name, part.copy())[:, direction] = part[:, direction]
    if mixes_here:
        tokens, *contextual = (computed[name][0] for name in layers)
        whole = [np.concatenate([tokens, tokens], axis=-1), *contextual]
        computed[Output.ELMO] = mix_layers(whole, mixes)[:, None]
    if Output.DEFAULT in names:
        computed[Output.DEFAULT] = _mean(computed[Output.ELMO])
    return {name: computed[name] for name in names}


def _windows(n_places: int, size: int, direction: int) -> Iterator[tuple[Places, Places | None]]:
    """Yield the segments in reading order, and the part of each that the next one continues.

    A graph drops the vectors of the first and last position of a row. So the next segment begins
    two positions before the end of this one, from the state of a second row that stops there.
    """
    if direction == FORWARD:
        start, stop = 0, min(size, n_places)
        while stop < n_places:
            yield slice(start, stop), slice(start, stop - 2)
            start, stop = stop - 2, min(stop - 2 + size, n_places)
    else:
        start, stop = max(n_places - size, 0), n_places
        while start > 0:
            yield slice(start, stop), slice(start + 2, stop)
            start, stop = max(start + 2 - size, 0), start + 2
    yield slice(start, stop), None


def _keep_half(
    computed: Computed,
    name: str,
    vectors: FloatArray,
    window: Places,
    direction: int,
    n_tokens: int,
) -> None:
    """Store the half of one direction, from the first row of (..., rows, positions - 2, 2P)."""
    *lead, _, _, width = vectors.shape
    whole = computed.setdefault(name, np.empty((*lead, 1, n_tokens, width), vectors.dtype))
    half = slice(0, width // 2) if direction == FORWARD else slice(width // 2, width)
    whole[..., 0, window.start : window.stop - 2, half] = vectors[..., 0, :, half]


def _mean(elmo: FloatArray) -> NDArray[np.float32]:
    """(mixes, 1, tokens, 2P) -> (mixes, 1, 2P): running sums in the order of time, as in graphs."""
    total = np.zeros((*elmo.shape[:-2], elmo.shape[-1]), np.float32)
    for token in range(elmo.shape[-2]):
        total += elmo[..., token, :]
    total /= np.float32(elmo.shape[-2])
    return total
