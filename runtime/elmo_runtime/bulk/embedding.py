"""An Embedder and the requested outputs -> the bulk job that computes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elmo_runtime.bulk.blocks import BlockLimits
from elmo_runtime.bulk.job import BulkJob, Columns, Vectors
from elmo_runtime.bulk.progress import Shard
from elmo_runtime.errors import InputError
from elmo_runtime.mixes import Mixes
from elmo_runtime.outputs import Output, checked_outputs, column_width, is_pooled

if TYPE_CHECKING:
    from elmo_runtime.embedder import Embedder


def embedding_job(
    embedder: Embedder,
    target: Path,
    *,
    outputs: Iterable[str] = (Output.ELMO,),
    mix: str | None = None,
    mix_weights: Sequence[float] | None = None,
    gamma: float | None = None,
    dtype: str = "float32",
    limits: BlockLimits | None = None,
    shard: Shard | None = None,
    on_error: str = "fail",
    resume: bool = False,
) -> BulkJob:
    """A job that writes these outputs, one column each, to the directory `target`.

    A directory with vectors of another bundle, backend, precision, mix or state policy is refused,
    so that it never contains two kinds of vectors. Raises InputError.
    """
    names = checked_outputs(outputs, embedder.config)
    if Output.LAYERS in names:
        raise InputError(
            "layers has no column of its own",
            hint=f"name word_emb, {', '.join(embedder.config.layer_names)}",
        )

    def vectors_of(sentences: Sequence[tuple[str, ...]]) -> Iterator[Vectors]:
        stream = embedder.embed_stream(
            sentences, outputs=names, mix=mix, mix_weights=mix_weights, gamma=gamma, dtype=dtype
        )
        for one in stream:
            yield {name: one[name][0] for name in names}

    return BulkJob(
        target,
        vectors_of=vectors_of,
        columns=Columns(
            widths={name: column_width(name, embedder.config) for name in names},
            pooled=tuple(filter(is_pooled, names)),
            dtype=dtype,
        ),
        settings={
            "bundle": embedder.bundle.digest,
            "backend": embedder.backend,
            "precision": embedder.precision,
            "state": embedder.state_policy,
            **_mix_settings(embedder, mix=mix, mix_weights=mix_weights, gamma=gamma),
        },
        refuses=_too_long(embedder.max_sentence_tokens),
        limits=limits,
        shard=shard,
        on_error=on_error,
        resume=resume,
    )


def _mix_settings(embedder: Embedder, **wanted: Any) -> dict[str, Any]:
    """The settings of the layer mix. Raises InputError for a mix that has no meaning."""
    if all(value is None for value in wanted.values()):
        return {"mix_weights": None, "gamma": 1.0}  # as in directories of earlier versions
    mixes = Mixes.of(embedder.config, embedder.bundle.mixes, **wanted)
    return {name: array[0].tolist() for name, array in mixes.graph_inputs().items()}


def _too_long(most: int | None) -> Callable[[tuple[str, ...]], str]:
    def refuses(tokens: tuple[str, ...]) -> str:
        if most is None or len(tokens) <= most:
            return ""
        return f"the sentence has {len(tokens)} tokens, at most {most} are taken"

    return refuses
