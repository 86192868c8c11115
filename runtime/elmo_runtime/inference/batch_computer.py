"""One backend with its word cache: a batch of words -> padded outputs by name."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from elmo_runtime.backends.base import Backend, BiLmInputs
from elmo_runtime.characters import BOUNDARY_TOKENS, char_ids
from elmo_runtime.config import ElmoConfig
from elmo_runtime.inference.batching import IndexedWords
from elmo_runtime.inference.long_sentences import SMALLEST, compute_long_sentence
from elmo_runtime.inference.request import Request
from elmo_runtime.inference.word_cache import CacheStats, IdentifiedWords, Word, WordVectors
from elmo_runtime.mixes import Mixes
from elmo_runtime.outputs import STACKED, FloatArray, Output
from elmo_runtime.state import State

NEED_WORDS = STACKED | {Output.WORD_EMB}  # outputs that contain the token vectors
Computed = dict[str, FloatArray]


class BatchComputer:
    """Computes batches on one backend. Any number of threads may share it.

    token_budget: the positions of one call of the backend. cache_words: the token vectors to keep.
    """

    def __init__(
        self, backend: Backend, config: ElmoConfig, *, token_budget: int, cache_words: int
    ) -> None:
        self.backend, self._config = backend, config
        longest = backend.longest
        self._budget = token_budget if longest is None else min(token_budget, longest)
        # The cache refers to the backend, not to this object: a cycle of the two would keep every
        # vector of a closed embedder in memory until the garbage collector runs.
        encode = partial(_encode, backend, config.max_characters_per_token)
        self._words = WordVectors(encode, width=config.projection_dim, capacity=cache_words)

    def compute(
        self,
        sentences: Sequence[Sequence[Word]],
        request: Request,
        names: Sequence[str],
        start: State,
    ) -> Computed:
        """The outputs `names` of the biLM, and token vectors if the request needs them.

        start has one row per sentence. Raises DeviceMemoryError if the batch is too large.
        """
        most = max(self._budget, SMALLEST) - len(BOUNDARY_TOKENS)
        if len(sentences) == 1 and len(sentences[0]) > most:
            return self._compute_long(sentences[0], request, names, start)
        batch = IndexedWords.of(sentences)
        words = self._words.identified(batch.words)
        half = request.dtype == np.float16
        computed = self._run_bilm(batch, words, request.mixes, names, start, half=half)
        if NEED_WORDS & set(request.outputs):
            computed[Output.WORD_EMB] = words.vectors[batch.word_index[:, 1:-1]]
        return computed

    def stats(self) -> CacheStats:
        """Counts of the word cache."""
        return self._words.stats()

    def _compute_long(
        self, sentence: Sequence[Word], request: Request, names: Sequence[str], start: State
    ) -> Computed:
        """A batch of one sentence that exceeds the budget, computed in segments."""

        def run(batch: IndexedWords, names: Sequence[str], start: State) -> Computed:
            words = self._words.identified(batch.words)
            return self._run_bilm(batch, words, request.mixes, names, start)

        computed: Computed = {}
        if names:
            computed = compute_long_sentence(
                sentence,
                names,
                start,
                budget=self._budget,
                layer_names=self._config.layer_names,
                mixes=request.mixes,
                run=run,
            )
        if NEED_WORDS & set(request.outputs):
            starts = range(0, len(sentence), self._budget)
            pieces = [self._words_of(sentence[at : at + self._budget]) for at in starts]
            computed[Output.WORD_EMB] = np.concatenate(pieces)[None]
        return computed

    def _words_of(self, tokens: Sequence[Word]) -> FloatArray:
        """(tokens, P)."""
        batch = IndexedWords.of_marked([tokens])
        return self._words.of(batch.words)[batch.word_index[0, : len(tokens)]]

    def _run_bilm(
        self,
        batch: IndexedWords,
        words: IdentifiedWords,
        mixes: Mixes,
        names: Sequence[str],
        start: State,
        *,
        half: bool = False,
    ) -> Computed:
        if not names:
            return {}
        inputs = BiLmInputs(
            word_vectors=words.vectors,
            word_ids=words.ids,
            word_index=batch.word_index,
            lengths=batch.lengths,
            mix_weights=mixes.weights,
            gamma=mixes.gamma,
            layer_norm=mixes.layer_norm,
            initial_h=start.h,
            initial_c=start.c,
        )
        return self.backend.run_bilm(inputs, names, half=half)


def _encode(backend: Backend, max_characters: int, words: Sequence[Word]) -> NDArray[np.float32]:
    """Words -> (words, P); a word is a token or the character ids that a caller passed for one."""
    tokens = [word if isinstance(word, str) else "" for word in words]
    ids = char_ids(tokens, max_characters=max_characters)
    for row, word in zip(ids, words, strict=True):
        if isinstance(word, bytes):
            row[:] = np.frombuffer(word, np.int32)
    return backend.encode_words(ids)
