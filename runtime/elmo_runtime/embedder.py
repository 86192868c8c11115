"""Embedder: an open bundle that turns sentences into vectors."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack

import numpy as np
from numpy.typing import DTypeLike, NDArray

from elmo_runtime.backends.base import Backend, BackendOptions
from elmo_runtime.backends.chain import BackendChain
from elmo_runtime.bundle.manifest import Bundle
from elmo_runtime.call_site import user_stacklevel
from elmo_runtime.characters import BOUNDARY_TOKENS
from elmo_runtime.config import ElmoConfig
from elmo_runtime.errors import BundleError, InputError
from elmo_runtime.inference.call_gate import CallGate
from elmo_runtime.inference.golden_check import check_golden
from elmo_runtime.inference.pipeline import CACHE_WORDS, Pipeline, Stats, host_limits
from elmo_runtime.inference.request import Request
from elmo_runtime.inference.word_cache import Word, words_of_ids
from elmo_runtime.mixes import Mix, Mixes
from elmo_runtime.options import (
    CpuOptions,
    GpuOptions,
    Limits,
    LoadOptions,
    OldOptions,
    check_count,
)
from elmo_runtime.outputs import Embeddings
from elmo_runtime.processors import usable_cpus
from elmo_runtime.state import POLICIES, State, checked_state, read_warm
from elmo_runtime.text.tokens import token_lists

STREAM_BATCHES = 8  # full batches that a stream reads ahead, to sort them by length

Sentences = Iterable[str | Sequence[str]]  # strings, split at spaces, or lists of tokens


class Embedder:
    """ELMo vectors from a bundle; `Embedder.load` opens one. Any number of threads may share it.

    `Embedder(bundle, backend)` uses a backend that is already open, and closes it.

    Examples:
        >>> with Embedder.load("bundle") as elmo:  # doctest: +SKIP
        ...     out = elmo.embed(["the cat is on the mat", "dogs are in the fog"])
        ...     out.elmo[0].shape
        (6, 1024)
    """

    def __init__(
        self,
        bundle: Bundle,
        backend: Backend,
        *,
        state: str = "zero",
        token_budget: int | None = None,
        cache_words: int = CACHE_WORDS,
        limits: Limits | None = None,
        chain: BackendChain | None = None,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        if state not in POLICIES:
            raise InputError(f"state is {state!r}", hint=f"use one of {', '.join(POLICIES)}")
        check_count("token_budget", token_budget, least=1)
        check_count("cache_words", cache_words, least=0)
        self._bundle, self._config = bundle, bundle.config
        self._state_policy, self._limits = state, limits or Limits()
        self._pipeline = Pipeline(
            chain or BackendChain.of(bundle, backend),
            backend,
            bundle.config,
            token_budget=token_budget,
            cache_words=cache_words,
        )
        self._start = read_warm(bundle) if state == "warm" else State.zeros(self._config, 1)
        self._carries = state == "carry"
        self._carried = State.zeros(self._config, 0)
        self._carry_lock = threading.Lock()
        self._arguments = arguments
        self._gate = CallGate(f"the embedder of {bundle.path}", self._limits)

    @classmethod
    def load(
        cls,
        bundle: str | Path,
        *,
        backend: str = "auto",
        precision: str = "auto",
        state: str = "zero",
        cpu: CpuOptions | None = None,
        gpu: GpuOptions | None = None,
        limits: Limits | None = None,
        token_budget: int | None = None,
        cache_words: int = CACHE_WORDS,
        trusted_engines: Sequence[str] = (),
        self_check: bool = True,
        **old: Unpack[OldOptions],
    ) -> Self:
        """Check every file of a bundle, open its graphs and compute its golden sentences.

        A pickled or copied embedder opens the bundle again with the same arguments.

        Args:
            bundle: The bundle directory.
            backend: "tensorrt", "onnxruntime-cuda", "native" or "onnxruntime-cpu"; "auto" takes
                the first of them that runs and computes the golden sentences correctly. If a
                better one is installed but fails, now or later, one BackendFallbackWarning gives
                the reason. A backend that is requested by name never falls back.
            precision: "fp32", "fp16", "bf16" or "int8"; "auto" is fp32 on the CPU, and on a GPU
                fp16 if the bundle has it.
            state: Where the LSTM state of a sentence comes from: "zero"; "warm", a fixed state
                in the bundle; or "carry", where row b continues row b of the previous call.
            cpu: Options of the backends on the CPU.
            gpu: Options of the backends on a GPU.
            limits: Limits on concurrent calls and on the length of a sentence.
            token_budget: The maximum number of tokens per batch, boundary tokens and padding
                included (the native backend computes no padding); None suits the backend. A longer
                sentence is computed in segments, with the same vectors and twice the work.
            cache_words: The number of token vectors that are kept between calls.
            trusted_engines: SHA-256 digests of `engine.json` files that were built elsewhere and
                may be opened.
            self_check: Compare the golden sentences with their stored vectors.
            **old: Options of earlier versions, which now belong to `cpu`, `gpu` or `limits`.

        Returns:
            The open embedder. Close it, or use it in a `with` statement.

        Raises:
            InputError: An argument has no meaning.
            BundleError: The bundle is missing, corrupt or incompatible.
            EngineError: The engine of a backend that was requested by name cannot be used.
            BackendUnavailableError: The requested backend, or every backend, cannot run.
            VerificationError: The requested backend, or every backend, computes wrong values.
        """
        given = LoadOptions(
            cpu=cpu or CpuOptions(), gpu=gpu or GpuOptions(), limits=limits or Limits()
        ).with_old_names(old)
        _check_threads(given.cpu.threads)
        opened = Bundle.open(_resolved(Path(bundle)))
        options = BackendOptions(
            threads=given.cpu.threads,
            spinning=given.cpu.spinning,
            gpu_mem_limit=given.gpu.mem_limit,
            trusted_engines=tuple(trusted_engines),
        )
        check = partial(check_golden, opened) if self_check else None
        chain = BackendChain(opened, backend, precision, options, check)
        first = chain.open()
        arguments = {
            "bundle": opened.path,
            "backend": backend,
            "precision": precision,
            "state": state,
            **vars(given),
            "token_budget": token_budget,
            "cache_words": cache_words,
            "trusted_engines": tuple(trusted_engines),
            "self_check": self_check,
        }
        try:
            return cls(
                opened,
                first,
                state=state,
                token_budget=token_budget,
                cache_words=cache_words,
                limits=given.limits,
                chain=chain,
                arguments=arguments,
            )
        except BaseException:
            chain.close()
            raise

    @property
    def backend(self) -> str:
        """The backend in use: "tensorrt", "onnxruntime-cuda", "native" or "onnxruntime-cpu"."""
        return self._pipeline.backend.name

    @property
    def precision(self) -> str:
        """The precision in use: "fp32", "fp16", "bf16" or "int8"."""
        return self._pipeline.backend.precision

    @property
    def config(self) -> ElmoConfig:
        """The options of the ELMo."""
        return self._config

    @property
    def bundle(self) -> Bundle:
        """The open bundle."""
        return self._bundle

    @property
    def state_policy(self) -> str:
        """Where the LSTM state of a sentence comes from: "zero", "warm" or "carry"."""
        return self._state_policy

    @property
    def max_sentence_tokens(self) -> int | None:
        """Tokens of the longest sentence that is accepted; None is no limit."""
        return self._limits.max_sentence_tokens

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
        """Embed sentences; the vectors are in the order of the sentences.

        Without `mix`, `mix_weights` and `mixes`, the layer mix of `elmo` and `default` is the
        first that the bundle stores, or equal weights if it stores none.

        Args:
            sentences: Texts, which are split at spaces, or lists of tokens.
            outputs: Names of outputs, see `Output`.
            mix: The name of a stored layer mix.
            mix_weights: layers + 1 weights of a mix, before the softmax.
            gamma: The scale of the mix, within 1e6 of 0. Alone, it replaces that of the stored mix.
            mixes: Several mixes in one pass, as names of stored ones or as
                {"ner": (weights, gamma), ...}. Their outputs are "elmo:ner" and so on.
            state: The state from which row b continues; the result holds the final state.
            dtype: "float32" or "float16".

        Returns:
            The vectors by output name.

        Raises:
            InputError: A sentence or an option has no meaning.
            BusyError: Too many calls wait, or this call waited too long.
            ClosedError: The embedder is closed, or belongs to another process.
            DeviceMemoryError: No backend has enough memory for a single sentence.
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
        """Embed character ids, as AllenNLP's `batch_to_ids` returns them.

        Args:
            char_ids: Shape (batch, length, max_characters), 0 past the end of each sentence.
            outputs: As in `embed`.
            mix: As in `embed`.
            mix_weights: As in `embed`.
            gamma: As in `embed`.
            mixes: As in `embed`.
            state: As in `embed`.
            dtype: As in `embed`.

        Returns:
            The vectors by output name.

        Raises:
            InputError: An id or an option has no meaning; the message gives the first wrong cell.
            BusyError: As in `embed`.
            ClosedError: As in `embed`.
            DeviceMemoryError: As in `embed`.
        """
        chosen = self._mixes(mix=mix, mix_weights=mix_weights, gamma=gamma, mixes=mixes)
        request = Request.of(self._config, outputs=outputs, mixes=chosen, dtype=dtype)
        return self._embed(words_of_ids(char_ids, self._config), request, state)

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
        """Embed any number of sentences in bounded memory.

        Some batches are read ahead, so that sentences of similar length are computed together.

        Args:
            sentences: As in `embed`; an iterator is read as the results are consumed.
            outputs: As in `embed`.
            mix: As in `embed`.
            mix_weights: As in `embed`.
            gamma: As in `embed`.
            mixes: As in `embed`.
            dtype: As in `embed`.

        Returns:
            An iterator of one Embeddings per sentence, in order.

        Raises:
            InputError: An option has no meaning, or the state policy is "carry": a stream has no
                rows that could be continued.
        """
        if self._carries:
            raise InputError(
                'embed_stream does not support state="carry"', hint="call embed batch by batch"
            )
        chosen = self._mixes(mix=mix, mix_weights=mix_weights, gamma=gamma, mixes=mixes)
        request = Request.of(self._config, outputs=outputs, mixes=chosen, dtype=dtype)
        chunks = _chunks(token_lists(sentences), STREAM_BATCHES * self._pipeline.token_budget)
        return (one for chunk in chunks for one in self._embed(chunk, request, None).each())

    def reset_state(self) -> None:
        """Forget the carried state; the next call starts from the zero state."""
        with self._carry_lock:
            self._carried = State.zeros(self._config, 0)

    def stats(self) -> Stats:
        """Counts since the bundle was loaded."""
        return self._pipeline.stats()

    def check_golden_sentences(self) -> None:
        """Compute the golden sentences on the backend in use; the carried state is not changed.

        Raises:
            VerificationError: An output differs by more than the precision allows.
        """
        with self._gate.call():
            check_golden(self._bundle, self._pipeline.backend)

    def close(self) -> None:
        """Wait for running calls, then free the backend. Further calls do nothing."""
        if self._gate.close():
            self._pipeline.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy open the bundle again: another backend with memory of its own.

        The copy gets the arguments of `load` and the carried state.
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
        with host_limits(len(sentences)):
            self._refuse_long(sentences)
            with self._gate.call():
                if state is not None:
                    return self._continue(sentences, request, checked_state(state, self._config))
                if not self._carries:
                    return self._pipeline.compute(sentences, request, start=self._start)
                with self._carry_lock:  # calls that carry a state run one after another
                    out = self._continue(sentences, request, self._carried)
                    if out.state is not None:  # a copy, because the caller may change the other
                        self._carried = out.state.first(out.state.rows)
                    return out

    def _continue(
        self, sentences: Sequence[Sequence[Word]], request: Request, state: State
    ) -> Embeddings:
        out = self._pipeline.continue_from(sentences, request, start=state.first(len(sentences)))
        return replace(out, state=state.followed_by(out.state) if out.state else None)

    def _refuse_long(self, sentences: Sequence[Sequence[Word]]) -> None:
        most = self._limits.max_sentence_tokens
        if most is None:
            return
        for number, sentence in enumerate(sentences):
            if len(sentence) > most:
                raise InputError(
                    f"sentence {number} has {len(sentence)} tokens, more than the {most} of"
                    " max_sentence_tokens",
                    hint="divide the sentence, or load with a larger limit",
                )


def _load_again(
    kind: type[Embedder],
    arguments: Mapping[str, Any],
    carried_h: NDArray[np.float32],
    carried_c: NDArray[np.float32],
) -> Embedder:
    """Pickle calls this function."""
    embedder = kind.load(**arguments)
    embedder._carried = State(carried_h, carried_c)
    return embedder


def _resolved(bundle: Path) -> Path:
    """The absolute path, which stays valid when the process changes its directory."""
    try:
        return bundle.resolve()
    except (OSError, RuntimeError) as error:  # the current directory is gone, or links form a cycle
        raise BundleError(f"{bundle} cannot be found: {error}", hint="pass another path") from error


def _check_threads(threads: int | None) -> None:
    usable = usable_cpus()
    if threads is not None and threads > usable:
        warnings.warn(
            f"threads is {threads}, but this process may use {usable} CPUs (its affinity mask and"
            f" the quota of its container): that is slower; use threads={usable} or less",
            RuntimeWarning,
            stacklevel=user_stacklevel(),
        )


def _chunks(sentences: Iterable[list[str]], budget: int) -> Iterator[list[list[str]]]:
    """Yield sentences in lists of about `budget` tokens, boundary tokens included."""
    chunk: list[list[str]] = []
    size = 0
    for sentence in sentences:
        chunk.append(sentence)
        size += len(sentence) + len(BOUNDARY_TOKENS)
        if size >= budget:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
