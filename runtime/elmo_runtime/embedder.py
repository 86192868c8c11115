"""Embedder: an open bundle that turns sentences into vectors."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from elmo_runtime.backends.base import Backend, BackendOptions
from elmo_runtime.backends.chain import open_backend, open_next
from elmo_runtime.bundle.manifest import Bundle
from elmo_runtime.characters import MARKS, checked_char_ids, lengths_of
from elmo_runtime.config import ElmoConfig
from elmo_runtime.errors import BundleError, DeviceMemoryError, InputError
from elmo_runtime.inference.concurrency_limits import Admission, Limits
from elmo_runtime.inference.golden_check import check_golden, golden_char_ids
from elmo_runtime.inference.lifecycle import Lifecycle
from elmo_runtime.inference.pipeline import NextBackend, Pipeline, Stats
from elmo_runtime.inference.request import Request
from elmo_runtime.inference.word_cache import Word
from elmo_runtime.mixes import Mix, Mixes
from elmo_runtime.outputs import Embeddings, Output
from elmo_runtime.processors import usable_cpus
from elmo_runtime.state import POLICIES, State, checked_state, read_warm
from elmo_runtime.text.tokens import token_lists

# Larger batches are no faster on the CPU (at 1024 the small and the original size are fastest) and
# take more memory; a GPU has both to spare, and its engines are built for as many.
TOKEN_BUDGETS = {"onnxruntime-cpu": 1024, "native": 4096}
GPU_TOKEN_BUDGET = 8192
CACHE_WORDS = 32_768  # 64 MB at P = 512, and most of the running words of any text
STREAM_BATCHES = 8  # a stream reads that many full batches ahead, to sort them by length

Sentences = Iterable[str | Sequence[str]]  # strings, split at spaces, or lists of tokens


class Embedder:
    """ELMo vectors from a bundle; `Embedder.load` opens one. Serves any number of threads.

    Examples:
        >>> with Embedder.load("bundle") as elmo:  # doctest: +SKIP
        ...     out = elmo.embed(["the cat is on the mat", "dogs are in the fog"])
        ...     out["elmo"][0].shape
        (6, 1024)
    """

    def __init__(
        self,
        bundle: Bundle,
        backend: Backend,
        *,
        state: str = "zero",
        token_budget: int | None = None,
        max_sentence_tokens: int | None = None,
        cache_words: int = CACHE_WORDS,
        limits: Limits | None = None,
        next_backend: NextBackend = lambda failed, error: None,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        if state not in POLICIES:
            raise InputError(f"state is {state!r}", hint=f"use one of {', '.join(POLICIES)}")
        if token_budget is None:
            token_budget = TOKEN_BUDGETS.get(backend.name, GPU_TOKEN_BUDGET)
        _check_count("token_budget", token_budget, least=1)
        _check_count("cache_words", cache_words, least=0)
        if max_sentence_tokens is not None:
            _check_count("max_sentence_tokens", max_sentence_tokens, least=1)
        self._bundle, self._config = bundle, bundle.config
        self._state_policy, self._max_sentence_tokens = state, max_sentence_tokens
        self._pipeline = Pipeline(
            backend,
            bundle.config,
            token_budget=token_budget,
            cache_words=cache_words,
            next_backend=next_backend,
        )
        self._token_budget = token_budget
        self._start = read_warm(bundle) if state == "warm" else State.zeros(self._config, 1)
        self._carries = state == "carry"
        self._carried = State.zeros(self._config, 0)
        self._carry_lock = threading.Lock()
        self._arguments = arguments
        self._lifecycle = Lifecycle(f"the embedder of {bundle.path}")
        self._admission = Admission(limits or Limits())

    @classmethod
    def load(
        cls,
        bundle: str | Path,
        *,
        backend: str = "auto",
        precision: str = "auto",
        state: str = "zero",
        threads: int | None = None,
        spinning: bool = True,
        gpu_mem_limit: int | None = None,
        token_budget: int | None = None,
        max_sentence_tokens: int | None = None,
        cache_words: int = CACHE_WORDS,
        max_running: int | None = None,
        max_waiting: int | None = None,
        timeout: float | None = None,
        trusted_engines: Sequence[str] = (),
        self_check: bool = True,
    ) -> Self:
        """Check every file of the bundle, open the graphs, compare the golden sentences.

        backend: "auto" takes the best that runs here, with one BackendFallbackWarning if an
        installed one fails or computes the golden sentences wrongly, now or, when its device
        cannot hold a single sentence, later; a name takes that one or raises
        BackendUnavailableError or VerificationError. precision: "auto" is fp32 on the CPU,
        and on a GPU fp16 if the bundle holds it. state: what the LSTMs start from: "zero", "warm"
        (stored in the bundle) or "carry" (row b continues row b of the last call). threads,
        spinning: of the CPU. gpu_mem_limit: bytes of device memory that ONNX Runtime may take on
        CUDA, weights included; None is no limit. token_budget: most tokens of one batch, sentence
        marks counted, and padding too unless the backend is native, None what suits the backend; a
        longer sentence is
        computed in windows, which gives the same vectors at twice the work, unless
        max_sentence_tokens refuses it. max_running: calls that compute at once, each with a batch
        in memory; max_waiting more wait for their turn, each at most `timeout` seconds, or else get
        BusyError; None is no limit. trusted_engines: SHA-256 digests of engine.json files that were
        built elsewhere and may be opened. Raises BundleError, VerificationError.

        A pickled or copied embedder opens the bundle again with the same arguments.
        """
        arguments = {name: value for name, value in locals().items() if name != "cls"}
        if threads is not None:
            _check_threads(threads)
        if gpu_mem_limit is not None:
            _check_count("gpu_mem_limit", gpu_mem_limit, least=1)
        limits = Limits(max_running=max_running, max_waiting=max_waiting, timeout=timeout)
        opened = Bundle.open(_resolved(Path(bundle)))
        options = BackendOptions(
            threads=threads,
            spinning=spinning,
            gpu_mem_limit=gpu_mem_limit,
            trusted_engines=tuple(trusted_engines),
        )

        def check(candidate: Backend) -> None:
            if self_check:
                cls(opened, candidate).check_golden_sentences()

        engine = open_backend(
            opened, backend=backend, precision=precision, options=options, check=check
        )

        def next_backend(failed: Backend, error: DeviceMemoryError) -> Backend | None:
            if backend != "auto":
                return None
            return open_next(
                opened, failed.name, error, precision=precision, options=options, check=check
            )

        try:
            return cls(
                opened,
                engine,
                state=state,
                token_budget=token_budget,
                max_sentence_tokens=max_sentence_tokens,
                cache_words=cache_words,
                limits=limits,
                next_backend=next_backend,
                arguments={**arguments, "bundle": opened.path},
            )
        except BaseException:
            engine.close()
            raise

    @property
    def backend(self) -> str:
        """The one in use: "tensorrt", "onnxruntime-cuda", "native" or "onnxruntime-cpu"."""
        return self._pipeline.backend.name

    @property
    def precision(self) -> str:
        """The precision of the graphs in use: "fp32", "fp16", "bf16" or "int8"."""
        return self._pipeline.backend.precision

    @property
    def config(self) -> ElmoConfig:
        """The ELMo in the bundle."""
        return self._config

    @property
    def bundle(self) -> Bundle:
        """The bundle that it was loaded from."""
        return self._bundle

    @property
    def state_policy(self) -> str:
        """What the LSTMs start from: "zero", "warm" or "carry"."""
        return self._state_policy

    @property
    def max_sentence_tokens(self) -> int | None:
        """Longer sentences are refused; None takes them all."""
        return self._max_sentence_tokens

    def embed(
        self,
        sentences: Sentences,
        *,
        outputs: Iterable[str] = ("elmo",),
        mix: str | None = None,
        mix_weights: Sequence[float] | None = None,
        gamma: float | None = None,
        mixes: Mapping[str, Mix] | Sequence[str] | None = None,
        state: State | None = None,
        dtype: DTypeLike = "float32",
    ) -> Embeddings:
        """Texts or lists of tokens -> their vectors, in the same order.

        The layer mix of `elmo` and `default` is the first one that the bundle stores, or equal
        shares if it stores none. mix: the name of another stored mix. mix_weights (layers + 1,
        before the softmax) and gamma (within 1e6 of 0, by default 1): a mix of the caller; a gamma
        alone replaces that of the stored mix. mixes: several in one pass, as names of stored ones
        or as {"ner": (weights, gamma), ...}; their outputs are `elmo:ner` and so on. `state` is
        where row b starts, and `out.state` where it ended. Raises InputError.
        """
        chosen = self._mixes(mix=mix, mix_weights=mix_weights, gamma=gamma, mixes=mixes)
        request = Request.of(self._config, outputs=outputs, mixes=chosen, dtype=dtype)
        return self._embed(list(token_lists(sentences)), request, state)

    def embed_char_ids(
        self,
        char_ids: NDArray[np.integer[Any]],
        *,
        outputs: Iterable[str] = ("elmo",),
        mix: str | None = None,
        mix_weights: Sequence[float] | None = None,
        gamma: float | None = None,
        mixes: Mapping[str, Mix] | Sequence[str] | None = None,
        state: State | None = None,
        dtype: DTypeLike = "float32",
    ) -> Embeddings:
        """Shifted ids (batch, length, max_characters), 0 past each sentence -> their vectors.

        The ids of `batch_to_ids` in AllenNLP. Raises InputError naming the first wrong cell.
        """
        chosen = self._mixes(mix=mix, mix_weights=mix_weights, gamma=gamma, mixes=mixes)
        request = Request.of(self._config, outputs=outputs, mixes=chosen, dtype=dtype)
        ids = checked_char_ids(char_ids, max_characters=self._config.max_characters_per_token)
        words: list[list[Word]] = [
            [row.tobytes() for row in sentence[:length]]
            for sentence, length in zip(ids, lengths_of(ids), strict=True)
        ]
        return self._embed(words, request, state)

    def embed_stream(
        self,
        sentences: Sentences,
        *,
        outputs: Iterable[str] = ("elmo",),
        mix: str | None = None,
        mix_weights: Sequence[float] | None = None,
        gamma: float | None = None,
        mixes: Mapping[str, Mix] | Sequence[str] | None = None,
        dtype: DTypeLike = "float32",
    ) -> Iterator[Embeddings]:
        """Yield each sentence as Embeddings of its own, in order, in bounded memory.

        Some batches are read ahead, so that sentences of like length can be computed together.
        Raises InputError under state="carry": a stream has no rows that could be continued.
        """
        if self._carries:
            raise InputError('state="carry" needs rows', hint="call embed batch by batch")
        chosen = self._mixes(mix=mix, mix_weights=mix_weights, gamma=gamma, mixes=mixes)
        request = Request.of(self._config, outputs=outputs, mixes=chosen, dtype=dtype)
        windows = _windows(token_lists(sentences), STREAM_BATCHES * self._token_budget)
        return (one for window in windows for one in self._embed(window, request, None).each())

    def reset_state(self) -> None:
        """Forget what state="carry" has carried; the next call starts from zero."""
        with self._carry_lock:
            self._carried = State.zeros(self._config, 0)

    def stats(self) -> Stats:
        """Counts since the bundle was loaded."""
        return self._pipeline.stats()

    def check_golden_sentences(self) -> None:
        """Compare the backend, from the zero state, with the golden sentences.

        Raises VerificationError.
        """
        outputs = (Output.WORD_EMB, *self._config.layer_names, Output.ELMO, Output.DEFAULT)
        ids = golden_char_ids(self._bundle)
        start = State.zeros(self._config, len(ids))
        mixes = [mix.name for mix in self._bundle.mixes] or None
        out = self.embed_char_ids(ids, outputs=outputs, mixes=mixes, state=start)
        check_golden(self._bundle, out, backend=self.backend, precision=self.precision)

    def close(self) -> None:
        """Wait for running calls, then free the backend. A second close does nothing."""
        if self._lifecycle.close():
            self._pipeline.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy open the bundle again: a second backend, with its own memory.

        The arguments of `load` and the state that state="carry" carries come along.
        """
        if self._arguments is None:
            raise TypeError("only an Embedder that Embedder.load returned can be pickled or copied")
        with self._carry_lock:
            carried = self._carried
        return _load_again, (type(self), dict(self._arguments), carried.h, carried.c)

    def __repr__(self) -> str:
        return f"Embedder({str(self._bundle.path)!r}, {self.backend}, {self.precision})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _mixes(self, **wanted: Any) -> Mixes:
        return Mixes.of(self._config, self._bundle.mixes, **wanted)

    def _embed(
        self, sentences: Sequence[Sequence[Word]], request: Request, state: State | None
    ) -> Embeddings:
        try:
            return self._embed_within_memory(sentences, request, state)
        except MemoryError as error:
            raise DeviceMemoryError(
                f"the memory cannot hold the vectors of {len(sentences)} sentences",
                hint="embed fewer sentences per call, use embed_stream, or load the bundle with a"
                " smaller token_budget",
            ) from error

    def _embed_within_memory(
        self, sentences: Sequence[Sequence[Word]], request: Request, state: State | None
    ) -> Embeddings:
        self._refuse_long(sentences)
        # A caller may have made NumPy's underflow, which rounding to float16 gives, an error.
        with self._lifecycle.running(), self._admission.turn(), np.errstate(all="ignore"):
            if state is not None:
                return self._continue(sentences, request, checked_state(state, self._config))
            if not self._carries:
                return self._pipeline.compute(sentences, request, start=self._start)
            with self._carry_lock:  # calls that carry follow one another
                out = self._continue(sentences, request, self._carried)
                if out.state is not None:  # a copy, for the caller may write into the other
                    self._carried = out.state.first(out.state.rows)
                return out

    def _continue(
        self, sentences: Sequence[Sequence[Word]], request: Request, state: State
    ) -> Embeddings:
        out = self._pipeline.continue_from(sentences, request, start=state.first(len(sentences)))
        return replace(out, state=state.followed_by(out.state) if out.state else None)

    def _refuse_long(self, sentences: Sequence[Sequence[Word]]) -> None:
        if self._max_sentence_tokens is None:
            return
        for number, sentence in enumerate(sentences):
            if len(sentence) > self._max_sentence_tokens:
                raise InputError(
                    f"sentence {number} has {len(sentence)} tokens,"
                    f" at most {self._max_sentence_tokens} are taken"
                )


def _load_again(
    kind: type[Embedder],
    arguments: Mapping[str, Any],
    carried_h: NDArray[np.float32],
    carried_c: NDArray[np.float32],
) -> Embedder:
    """What a pickle of an embedder calls."""
    embedder = kind.load(**arguments)
    embedder._carried = State(carried_h, carried_c)
    return embedder


def _resolved(bundle: Path) -> Path:
    """The absolute path, which stays right when the process changes its directory."""
    try:
        return bundle.resolve()
    except (OSError, RuntimeError) as error:  # no current directory any more; a circle of links
        raise BundleError(f"{bundle} cannot be found: {error}", hint="pass another path") from error


def _check_threads(threads: int) -> None:
    _check_count("threads", threads, least=1)
    if threads > (usable := usable_cpus()):
        warnings.warn(
            f"threads is {threads}, but this process may use {usable} CPUs (its affinity mask and"
            f" the quota of its container): that is slower; use threads={usable} or less",
            RuntimeWarning,
            stacklevel=3,  # warn, _check_threads, load: the line that called load
        )


def _windows(sentences: Iterable[list[str]], budget: int) -> Iterator[list[list[str]]]:
    """Yield sentences in lists of about `budget` tokens, their marks counted."""
    window: list[list[str]] = []
    size = 0
    for sentence in sentences:
        window.append(sentence)
        size += len(sentence) + len(MARKS)
        if size >= budget:
            yield window
            window, size = [], 0
    if window:
        yield window


def _check_count(name: str, value: object, *, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} is {value!r}, must be an integer of at least {least}")
