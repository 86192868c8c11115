"""Requests that run in a child process: hostile, very long or very many."""

from __future__ import annotations

import gc
import hashlib
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from elmo_runtime import Embedder, InputError
from elmo_runtime.backends.native import library
from elmo_runtime.options import CpuOptions
from guarantee_kit import memory

HOSTILE = (
    "",
    " ",
    "\0",
    "\ud800",
    "\udfff\ud800",
    "x" * 10_000,
    "é" * 30,  # the limit of 48 bytes is inside a character or between two
    "日" * 17,
    "e" + "\u0301" * 100,
    "👩\u200d👩\u200d👧\u200d👦",
    "\ufeff",
    "\u2028",
    "\u202e",
    "<S>",
    "</S>",
    "\n",
    "\x85",
    "🏳\ufe0f\u200d🌈" * 20,
)
CHARACTERS = st.characters(exclude_categories=())  # lone surrogates included
TOKENS = st.one_of(st.sampled_from(HOSTILE), st.text(CHARACTERS, max_size=20))
SENTENCE = st.one_of(st.text(CHARACTERS, max_size=30), st.lists(TOKENS, max_size=9))
SENTENCES = st.lists(SENTENCE, max_size=5)
NONSENSE = st.recursive(
    st.one_of(st.none(), st.integers(), st.floats(), st.binary(max_size=4), TOKENS),
    lambda inner: st.one_of(
        st.lists(inner), st.sets(st.text()), st.tuples(inner), st.just(np.ones(2))
    ),
    max_leaves=4,
)


def answer_anything(bundle: Path, number: int, examples: int, note: Path, fault: str = "") -> int:
    """Embed `examples` hostile inputs; return the number of answered ones.

    `note` holds the current input, so that it is known if this process dies.
    Raises AssertionError if a value is not finite, and every error except InputError.
    """
    answered = 0
    file = os.open(note, os.O_WRONLY | os.O_CREAT)
    with Embedder.load(
        bundle, backend="onnxruntime-cpu", token_budget=64, cpu=CpuOptions(threads=1)
    ) as elmo:
        if fault:
            _plant(elmo, fault, note.with_suffix(".hang"))

        @seed(number)
        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        )
        @given(st.one_of(SENTENCES, SENTENCES, SENTENCES, NONSENSE))
        def embed(sentences: Any) -> None:
            nonlocal answered
            _put(file, ascii(sentences))
            try:
                out = elmo.embed(sentences, outputs=("elmo", "default"))
            except InputError:
                return
            answered += 1
            for vectors in (*out["elmo"], out["default"]):
                assert np.isfinite(vectors).all(), "a value is not finite"

        embed()
    os.close(file)
    return answered


def _put(file: int, text: str) -> None:
    """Replace the contents of the file without a buffer, which a crash would lose."""
    os.pwrite(file, text.encode(), 0)
    os.ftruncate(file, len(text.encode()))


def _plant(elmo: Embedder, fault: str, hang: Path) -> None:
    backend = elmo._pipeline.backend
    run = backend.run_bilm

    def faulty(inputs: Any, outputs: Sequence[str], **options: Any) -> dict[str, Any]:
        long = inputs.word_index.shape[1] > 8
        if long and fault == "crash":
            os.abort()
        if long and fault == "hang":
            hang.touch()
            time.sleep(10_000)
        found = run(inputs, outputs, **options)
        if long and fault == "overflow":
            found["elmo"][..., 0] = np.inf
        return found

    backend.run_bilm = faulty


def memory_of_sizes(bundle: Path, what: str, token_budget: int) -> dict[str, int]:
    """Peak bytes of this process after one full batch, and after `what` was embedded too."""
    words = [f"word{number}" for number in range(300)]
    generator = random.Random(0)
    with Embedder.load(
        bundle,
        backend="onnxruntime-cpu",
        token_budget=token_budget,
        cpu=CpuOptions(threads=1),
    ) as elmo:
        elmo.embed([generator.choices(words, k=62) for _ in range(2048 // 64)])
        one_batch = memory.peak()
        if what == "sentence":
            out = elmo.embed([generator.choices(words, k=100_000)])
            count = len(out["elmo"][0])
        else:
            endless = (generator.choices(words, k=generator.randrange(8)) for _ in range(100_000))
            count = sum(
                len(one["default"]) for one in elmo.embed_stream(endless, outputs=["default"])
            )
        return {"one batch": one_batch, "all": memory.peak(), "count": count}


def growth_over_requests(bundle: Path, number: int, requests: int) -> int:
    """Memory growth in bytes over the second half of the requests, which have random shapes."""
    generator = random.Random(number)
    words = [f"word{index}" for index in range(3_000)]

    def request(elmo: Embedder) -> None:
        rows = range(generator.choice((1, 1, 2, 4, 8)))
        elmo.embed([generator.choices(words, k=generator.randrange(24)) for _ in rows])

    with Embedder.load(bundle, backend="onnxruntime-cpu", cpu=CpuOptions(threads=1)) as elmo:
        return growth(lambda: request(elmo), requests)


def growth_with_leak(size: int, requests: int) -> int:
    """The same measure for a request that only leaks `size` bytes."""
    lost: list[bytes] = []
    return growth(lambda: lost.append(os.urandom(size)), requests)


def growth(request: Callable[[], object], requests: int) -> int:
    """Memory growth in bytes over the second half of the requests."""
    for _ in range(requests // 2):
        request()
    gc.collect()
    before = memory.resident()
    for _ in range(requests - requests // 2):
        request()
    gc.collect()
    return memory.resident() - before


def traces_of_loading(bundle: Path, times: int, fault: str = "") -> dict[str, int]:
    """Bytes, descriptors and threads that remain after repeated loading and closing."""
    kept: list[Embedder] = []

    def load() -> None:
        elmo = Embedder.load(bundle, backend="onnxruntime-cpu", cpu=CpuOptions(threads=2))
        elmo.embed(["the cat sat"])
        if fault:
            kept.append(elmo)
        else:
            elmo.close()

    for _ in range(10):  # libraries and arenas of the allocator are loaded once and stay
        load()
    gc.collect()
    before = memory.resident(), memory.open_files(), memory.threads()
    for _ in range(times):
        load()
    gc.collect()
    after = memory.resident(), memory.open_files(), memory.threads()
    names = ("bytes", "files", "threads")
    return {name: b - a for name, a, b in zip(names, before, after, strict=True)}


def digest_of_vectors(
    bundle: Path,
    sentences: Sequence[Sequence[str]],
    threads: int,
    perturbation: float = 0.0,
    options: Mapping[str, str] | None = None,
) -> str:
    """The digest of every bit of every output. perturbation: added to each value per thread."""
    digest = hashlib.sha256()
    loading = {"backend": "onnxruntime-cpu"} | dict(options or {})
    if instruction_set := loading.pop("instruction_set", None):
        os.environ[library.CHOICE] = instruction_set
        assert library.instruction_set() == instruction_set
    with Embedder.load(bundle, cpu=CpuOptions(threads=threads), **loading) as elmo:
        out = elmo.embed(sentences, outputs=("word_emb", "layers", "elmo", "default"))
    for name in out:
        for vectors in out[name]:
            moved = vectors + np.float32(perturbation * threads)
            digest.update(np.ascontiguousarray(moved).tobytes())
    return digest.hexdigest()
