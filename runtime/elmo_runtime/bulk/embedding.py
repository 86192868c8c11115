"""An Embedder and what is wanted of it -> the bulk job that computes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from elmo_runtime.bulk.blocks import BlockLimits
from elmo_runtime.bulk.job import BulkJob, Columns, Vectors
from elmo_runtime.bulk.progress import Shard
from elmo_runtime.bundle import MANIFEST
from elmo_runtime.errors import InputError
from elmo_runtime.files import sha256_of
from elmo_runtime.outputs import Output, checked_outputs, token_shape

if TYPE_CHECKING:
    from elmo_runtime.embedder import Embedder


def embedding_job(
    embedder: Embedder,
    target: Path,
    *,
    outputs: Iterable[str] = (Output.ELMO,),
    mix_weights: Sequence[float] | None = None,
    gamma: float = 1.0,
    dtype: str = "float32",
    limits: BlockLimits | None = None,
    shard: Shard | None = None,
    on_error: str = "fail",
    resume: bool = False,
) -> BulkJob:
    """A job that writes these outputs, a column each, to the folder `target`.

    A folder that another bundle, backend, precision, mix or start of the LSTMs was used for is
    refused, so that no two kinds of vectors come to stand side by side.
    """
    names = checked_outputs(outputs, embedder.config)
    if Output.LAYERS in names:
        raise InputError(
            "layers has no column of its own",
            hint=f"name word_emb, {', '.join(embedder.config.layer_names)}",
        )

    def vectors_of(sentences: Sequence[tuple[str, ...]]) -> Iterator[Vectors]:
        stream = embedder.embed_stream(
            sentences, outputs=names, mix_weights=mix_weights, gamma=gamma, dtype=dtype
        )
        for one in stream:
            yield {name: one[name][0] for name in names}

    return BulkJob(
        target,
        vectors_of=vectors_of,
        columns=Columns(
            widths={name: token_shape(name, embedder.config, 0)[-1] for name in names},
            pooled=tuple(name for name in names if name == Output.DEFAULT),
            dtype=dtype,
        ),
        settings={
            "bundle": sha256_of(embedder.bundle.path / MANIFEST),
            "backend": embedder.backend,
            "precision": embedder.precision,
            "state": embedder.state_policy,
            "mix_weights": None if mix_weights is None else list(mix_weights),
            "gamma": gamma,
        },
        refuses=_too_long(embedder.max_sentence_tokens),
        limits=limits,
        shard=shard,
        on_error=on_error,
        resume=resume,
    )


def _too_long(most: int | None) -> Callable[[tuple[str, ...]], str]:
    def refuses(tokens: tuple[str, ...]) -> str:
        if most is None or len(tokens) <= most:
            return ""
        return f"the sentence has {len(tokens)} tokens, at most {most} are taken"

    return refuses
