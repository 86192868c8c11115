"""Words -> batches -> backend -> vectors of each sentence; it knows no texts and no policies."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from elmo_runtime.backends.base import Backend, BiLmInputs
from elmo_runtime.characters import MARKS, char_ids, count_cut
from elmo_runtime.config import ElmoConfig
from elmo_runtime.errors import DeviceMemoryError
from elmo_runtime.inference.batching import IndexedWords, batches
from elmo_runtime.inference.collector import Collector
from elmo_runtime.inference.long_sentences import FINAL_STATES, SMALLEST, compute_in_windows
from elmo_runtime.inference.request import Request
from elmo_runtime.inference.word_cache import IdentifiedWords, Word, WordVectors
from elmo_runtime.mixes import Mixes
from elmo_runtime.outputs import STACKED, Embeddings, FloatArray, Output
from elmo_runtime.state import State

NEED_WORDS = STACKED | {Output.WORD_EMB}  # outputs that contain the token vectors
PACKED = frozenset({"native"})  # backends to which padding costs nothing
Sentences = Sequence[Sequence[Word]]
Rows = NDArray[np.intp]
NextBackend = Callable[[Backend, DeviceMemoryError], Backend | None]


@dataclass(frozen=True, kw_only=True)
class Stats:
    """What was computed since the bundle was loaded."""

    sentences: int = 0  # those that reached the backend; one of no tokens needs none
    tokens: int = 0
    cut_tokens: int = 0  # longer than a token may be (48 bytes): only their beginning counts
    batches: int = 0
    word_hits: int = 0  # distinct words of a batch whose vector was known
    word_misses: int = 0
    cached_words: int = 0


class Pipeline:
    """One backend, a cache of word vectors before it, and counts. Safe for many threads.

    next_backend: what takes over, from now on, from a backend whose device cannot hold a single
    sentence; None where nothing can.
    """

    def __init__(
        self,
        backend: Backend,
        config: ElmoConfig,
        *,
        token_budget: int,
        cache_words: int,
        next_backend: NextBackend = lambda failed, error: None,
    ) -> None:
        self.backend = backend
        self._next_backend = next_backend
        self._retired: list[Backend] = []  # calls of other threads may still run on them
        self._replacing = threading.Lock()
        self._config, self._token_budget = config, token_budget
        self._cache_words = cache_words
        self._word_vectors = self._cache_before(backend)
        self._counts = Stats()
        self._lock = threading.Lock()

    def close(self) -> None:
        """Free every backend; no computation is running or follows."""
        for backend in (*self._retired, self.backend):
            backend.close()

    def compute(self, sentences: Sentences, request: Request, *, start: State) -> Embeddings:
        """Every sentence from the same state, a single row; where it ends is not kept."""
        collector, lengths = self._collector(sentences, request)
        names = request.graph_outputs(self._config)
        # A sentence of no tokens has no vectors, so the backend need not see it.
        for group in self._batches(np.flatnonzero(lengths), lengths):
            starts = start.repeated(len(group))
            for rows, computed in self._run(sentences, group, request, names, starts):
                collector.add(rows, computed)
        self._count_cut(sentences)
        return collector.finish(None)

    def continue_from(self, sentences: Sentences, request: Request, *, start: State) -> Embeddings:
        """Sentence b from row b of a state with as many rows; `.state` is where each one ended."""
        collector, lengths = self._collector(sentences, request)
        names = (*request.graph_outputs(self._config), *FINAL_STATES)
        final = State(start.h.copy(), start.c.copy())
        # Also one of no tokens: its two sentence marks move the state.
        for group in self._batches(np.arange(len(lengths)), lengths):
            for rows, computed in self._run(sentences, group, request, names, start.take(group)):
                collector.add(rows, computed)
                final.h[:, :, rows], final.c[:, :, rows] = (computed[name] for name in FINAL_STATES)
        self._count_cut(sentences)
        return collector.finish(final)

    def stats(self) -> Stats:
        """A snapshot."""
        words = self._word_vectors.stats()
        with self._lock:
            return replace(
                self._counts,
                word_hits=words.hits,
                word_misses=words.misses,
                cached_words=words.words,
            )

    def _collector(
        self, sentences: Sentences, request: Request
    ) -> tuple[Collector, NDArray[np.int32]]:
        lengths = np.array([len(sentence) for sentence in sentences], np.int32)
        return Collector(request, self._config, lengths), lengths

    def _batches(self, rows: Rows, lengths: NDArray[np.int32]) -> Iterator[Rows]:
        longest = self.backend.longest
        return batches(
            rows,
            lengths,
            token_budget=self._token_budget,
            longest=longest,
            packed=self.backend.name in PACKED,
        )

    def _run(
        self, sentences: Sentences, rows: Rows, request: Request, names: Sequence[str], start: State
    ) -> Iterator[tuple[Rows, dict[str, FloatArray]]]:
        """Yield a batch and its outputs; in halves, as often as need be, where memory lacks."""
        backend = self.backend
        try:
            yield rows, self._run_group([sentences[row] for row in rows], request, names, start)
        except DeviceMemoryError as error:
            if len(rows) == 1:
                self._replace(backend, error)
            for half in np.array_split(np.arange(len(rows)), min(len(rows), 2)):
                yield from self._run(sentences, rows[half], request, names, start.take(half))

    def _run_group(
        self, group: Sentences, request: Request, names: Sequence[str], start: State
    ) -> dict[str, FloatArray]:
        budget = self._places_of_a_call()
        if len(group) == 1 and len(group[0]) > max(budget, SMALLEST) - len(MARKS):
            return self._run_long(group[0], request, names, start, budget=budget)
        return self._run_batch(IndexedWords.of(group), request, names, start)

    def _places_of_a_call(self) -> int:
        """The token budget, or less where the backend takes no sentence of that length."""
        longest = self.backend.longest
        return self._token_budget if longest is None else min(self._token_budget, longest)

    def _replace(self, failed: Backend, error: DeviceMemoryError) -> None:
        """Put the next backend in place of the failed one. Raises `error` where there is none."""
        with self._replacing:
            if self.backend is not failed:
                return  # another thread was faster
            successor = self._next_backend(failed, error)
            if successor is None:
                raise error
            self._retired.append(failed)
            # First the cache: who sees the successor must not meet the failed one behind it.
            self._word_vectors = self._cache_before(successor)
            self.backend = successor

    def _cache_before(self, backend: Backend) -> WordVectors:
        # It knows the backend and not this object: a circle of the two, with every vector kept,
        # would outlive a closed embedder until the garbage collector comes by.
        encode = partial(_encode, backend, self._config.max_characters_per_token)
        return WordVectors(encode, width=self._config.projection_dim, capacity=self._cache_words)

    def _run_batch(
        self, batch: IndexedWords, request: Request, names: Sequence[str], start: State
    ) -> dict[str, FloatArray]:
        words = self._word_vectors.identified(batch.words)
        half = request.dtype == np.float16
        computed = self._run_bilm(batch, words, request.mixes, names, start, half=half)
        if NEED_WORDS & set(request.outputs):
            computed[Output.WORD_EMB] = words.vectors[batch.word_index[:, 1:-1]]
        self._count(len(batch.lengths), int(batch.lengths.sum()))
        return computed

    def _run_long(
        self,
        sentence: Sequence[Word],
        request: Request,
        names: Sequence[str],
        start: State,
        *,
        budget: int,
    ) -> dict[str, FloatArray]:
        """A batch of one sentence that no batch can hold, in calls of `budget` places."""

        def run(batch: IndexedWords, names: Sequence[str], start: State) -> dict[str, FloatArray]:
            words = self._word_vectors.identified(batch.words)
            return self._run_bilm(batch, words, request.mixes, names, start)

        computed: dict[str, FloatArray] = {}
        if names:
            computed = compute_in_windows(
                sentence,
                names,
                start,
                budget=budget,
                layer_names=self._config.layer_names,
                mixes=request.mixes,
                run=run,
            )
        if NEED_WORDS & set(request.outputs):
            pieces = [sentence[at : at + budget] for at in range(0, len(sentence), budget)]
            computed[Output.WORD_EMB] = np.concatenate([self._words_of(p) for p in pieces])[None]
        self._count(1, len(sentence))
        return computed

    def _words_of(self, tokens: Sequence[Word]) -> FloatArray:
        """(tokens, P)."""
        batch = IndexedWords.of_marked([tokens])
        return self._word_vectors.of(batch.words)[batch.word_index[0, : len(tokens)]]

    def _run_bilm(
        self,
        batch: IndexedWords,
        words: IdentifiedWords,
        mixes: Mixes,
        names: Sequence[str],
        start: State,
        *,
        half: bool = False,
    ) -> dict[str, FloatArray]:
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

    def _count_cut(self, sentences: Sentences) -> None:
        most = self._config.max_characters_per_token
        cut = count_cut(chain.from_iterable(sentences), max_characters=most)
        with self._lock:
            self._counts = replace(self._counts, cut_tokens=self._counts.cut_tokens + cut)

    def _count(self, sentences: int, tokens: int) -> None:
        with self._lock:
            counts = self._counts
            self._counts = replace(
                counts,
                sentences=counts.sentences + sentences,
                tokens=counts.tokens + tokens,
                batches=counts.batches + 1,
            )


def _encode(backend: Backend, max_characters: int, words: Sequence[Word]) -> NDArray[np.float32]:
    """Words -> (words, P); a word is a token, or the ids that a caller gave for one."""
    tokens = [word if isinstance(word, str) else "" for word in words]
    ids = char_ids(tokens, max_characters=max_characters)
    for row, word in zip(ids, words, strict=True):
        if isinstance(word, bytes):
            row[:] = np.frombuffer(word, np.int32)
    return backend.encode_words(ids)
