"""Words -> batches -> backend -> vectors of each sentence, independent of texts and policies."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from elmo_runtime.backends.base import Backend
from elmo_runtime.backends.chain import BackendChain
from elmo_runtime.characters import count_cut
from elmo_runtime.config import ElmoConfig
from elmo_runtime.errors import DeviceMemoryError
from elmo_runtime.inference.batch_computer import BatchComputer, Computed
from elmo_runtime.inference.batching import batches
from elmo_runtime.inference.collector import Collector
from elmo_runtime.inference.long_sentences import FINAL_STATES
from elmo_runtime.inference.request import Request
from elmo_runtime.inference.word_cache import Word
from elmo_runtime.outputs import Embeddings
from elmo_runtime.state import State

# Larger batches are no faster on the CPU (the small and the original size are fastest at 1024) and
# need more memory. A GPU has room for both, and its engines are built for batches of this size.
TOKEN_BUDGETS = {"onnxruntime-cpu": 1024, "native": 4096}
GPU_TOKEN_BUDGET = 8192
CACHE_WORDS = 32_768  # 64 MB at P = 512, and most of the running words of any text
PACKED = frozenset({"native"})  # backends to which padding costs nothing
Sentences = Sequence[Sequence[Word]]
Rows = NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class Stats:
    """Counts since the bundle was loaded.

    Attributes:
        sentences: Sentences that a backend computed; one without tokens needs no backend.
        tokens: Their tokens.
        cut_tokens: Tokens longer than the model can read (48 bytes), of which only the beginning
            counts.
        batches: Batches that a backend computed.
        word_hits: Distinct words of a batch that the word cache held.
        word_misses: Distinct words of a batch that the character CNN computed.
        cached_words: Words in the word cache.
    """

    sentences: int = 0
    tokens: int = 0
    cut_tokens: int = 0
    batches: int = 0
    word_hits: int = 0
    word_misses: int = 0
    cached_words: int = 0


class Pipeline:
    """The backend in use behind a word cache, and counts. Any number of threads may share it.

    backend: the one that the chain opened; if its device cannot hold a single sentence, the next
    one of the chain replaces it. token_budget: None is a size that suits the backend.
    """

    def __init__(
        self,
        backends: BackendChain,
        backend: Backend,
        config: ElmoConfig,
        *,
        token_budget: int | None = None,
        cache_words: int = CACHE_WORDS,
    ) -> None:
        self._chain, self._config, self._cache_words = backends, config, cache_words
        if token_budget is None:
            token_budget = TOKEN_BUDGETS.get(backend.name, GPU_TOKEN_BUDGET)
        self.token_budget = token_budget
        self._computer = self._computer_on(backend)
        self._advancing = threading.Lock()
        self._counts = Stats()
        self._lock = threading.Lock()

    @property
    def backend(self) -> Backend:
        """The backend in use."""
        return self._computer.backend

    def close(self) -> None:
        """Free every backend; no computation is running or follows."""
        self._chain.close()

    def compute(self, sentences: Sentences, request: Request, *, start: State) -> Embeddings:
        """Every sentence from the same state, a single row; the final states are not kept."""
        collector, lengths = self._collector(sentences, request)
        names = request.graph_outputs(self._config)
        # A sentence without tokens has no vectors, so no backend computes it.
        for group in self._batches(np.flatnonzero(lengths), lengths):
            starts = start.repeated(len(group))
            for rows, computed in self._run(sentences, group, request, names, starts):
                collector.add(rows, computed)
        self._count_cut(sentences)
        return collector.finish(None)

    def continue_from(self, sentences: Sentences, request: Request, *, start: State) -> Embeddings:
        """Sentence b from row b of a state with as many rows; `.state` holds the final states."""
        collector, lengths = self._collector(sentences, request)
        names = (*request.graph_outputs(self._config), *FINAL_STATES)
        final = State(start.h.copy(), start.c.copy())
        # A sentence without tokens is computed too: its two boundary tokens change the state.
        for group in self._batches(np.arange(len(lengths)), lengths):
            for rows, computed in self._run(sentences, group, request, names, start.take(group)):
                collector.add(rows, computed)
                final.h[:, :, rows], final.c[:, :, rows] = (computed[name] for name in FINAL_STATES)
        self._count_cut(sentences)
        return collector.finish(final)

    def stats(self) -> Stats:
        """A snapshot of the counts."""
        words = self._computer.stats()
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
        backend = self.backend
        return batches(
            rows,
            lengths,
            token_budget=self.token_budget,
            longest=backend.longest,
            packed=backend.name in PACKED,
        )

    def _run(
        self, sentences: Sentences, rows: Rows, request: Request, names: Sequence[str], start: State
    ) -> Iterator[tuple[Rows, Computed]]:
        """Yield a batch and its outputs, in halves for as long as the device lacks memory."""
        computer = self._computer
        group = [sentences[row] for row in rows]
        try:
            computed = computer.compute(group, request, names, start)
        except DeviceMemoryError as error:
            if len(rows) == 1:
                self._advance(computer, error)
            for half in np.array_split(np.arange(len(rows)), min(len(rows), 2)):
                yield from self._run(sentences, rows[half], request, names, start.take(half))
            return
        self._count(len(group), sum(map(len, group)))
        yield rows, computed

    def _advance(self, failed: BatchComputer, error: DeviceMemoryError) -> None:
        """Use the next backend of the chain from now on. Raises `error` if there is none."""
        with self._advancing:
            if self._computer is failed:  # otherwise another thread has advanced already
                self._computer = self._computer_on(self._chain.advance(failed.backend, error))

    def _computer_on(self, backend: Backend) -> BatchComputer:
        return BatchComputer(
            backend,
            self._config,
            token_budget=self.token_budget,
            cache_words=self._cache_words,
        )

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


@contextlib.contextmanager
def host_limits(n_sentences: int) -> Iterator[None]:
    """Raise DeviceMemoryError if the memory of the host is full, and ignore lost precision."""
    try:
        # A caller may have made NumPy's underflow an error; rounding to float16 causes it.
        with np.errstate(all="ignore"):
            yield
    except MemoryError as error:
        raise DeviceMemoryError(
            f"the memory cannot hold the vectors of {n_sentences} sentences",
            hint="embed fewer sentences per call, use embed_stream, or load the bundle with a"
            " smaller token_budget",
        ) from error
