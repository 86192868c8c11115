"""Embed a corpus into one file, written atomically."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from elmo_deploy.cli._terminal import console as terminal
from elmo_deploy.cli._terminal.meter import Meter
from elmo_runtime.bulk import BadRecord, Corpus
from elmo_runtime.bulk.job import ON_ERROR
from elmo_runtime.bulk.writers import check_target, open_writer
from elmo_runtime.embedder import Embedder
from elmo_runtime.errors import InputError
from elmo_runtime.outputs import Embeddings, checked_outputs, is_pooled, token_shape

DIRECTORY_SUFFIXES = ("", ".parquet")


def is_file_name(out: Path) -> bool:
    """Whether a name means one file: it has a suffix other than `.parquet`."""
    return not out.is_dir() and out.suffix.lower() not in DIRECTORY_SUFFIXES


def embed_file(
    bundle: Path,
    corpus: Corpus,
    out: Path,
    *,
    output: str,
    dtype: str,
    keys: str,
    rows: int,
    on_error: str,
    mixing: Mapping[str, Any],
    loading: Mapping[str, Any],
    as_json: bool,
) -> None:
    """Embed a corpus into `out` and print a summary."""
    check_target(out, dtype=dtype, keys=keys)
    if on_error not in ON_ERROR:
        raise InputError(f"on_error is {on_error!r}", hint=f"use {' or '.join(ON_ERROR)}")
    skipped: list[str] = []
    with Embedder.load(bundle, **loading) as elmo:
        (output,) = checked_outputs(output, elmo.config)
        shape = _row_shape(elmo, output)
        texts: deque[str] = deque()  # Keys of sentences that are read but not yet written.
        sentences = _tokens(corpus, texts, skipped if on_error == "skip" else None)
        stream = _vectors(elmo, sentences, rows, outputs=[output], dtype=dtype, **mixing)
        with (
            open_writer(out, row_shape=shape, dtype=dtype, keys=keys) as writer,
            Meter(corpus) as meter,
        ):
            for one in stream:
                writer.add(texts.popleft(), one[output][0])
                meter.add(int(one.lengths[0]))
        in_use = {"backend": elmo.backend, "precision": elmo.precision}
        cut, room = elmo.stats().cut_tokens, elmo.config.max_characters_per_token - 2
    terminal.report_skipped(skipped)
    terminal.report_cut(cut, room)
    if as_json:
        terminal.print_json(
            {
                "file": str(out),
                **meter.summary(),
                "cut_tokens": cut,
                "skipped": len(skipped),
                **in_use,
            }
        )
    else:
        where = f"on {in_use['backend']} in {in_use['precision']}"
        terminal.stderr().print(f"{meter} {where} -> {out}")


def _tokens(
    corpus: Corpus, texts: deque[str], skipped: list[str] | None
) -> Iterator[tuple[str, ...]]:
    """Yield the sentences of the corpus and append their keys to `texts`.

    Unreadable lines are appended to `skipped`; without that list they raise InputError.
    """
    for record in corpus:
        if not isinstance(record, BadRecord):
            texts.append(record.key)
            yield record.tokens
        elif skipped is not None:
            skipped.append(str(record))
        else:
            raise InputError(str(record), hint="fix the line, or skip it with --on-error skip")


def _vectors(
    elmo: Embedder, sentences: Iterator[tuple[str, ...]], rows: int, **request: Any
) -> Iterator[Embeddings]:
    """One Embeddings per sentence. A carried state continues row by row in the next batch."""
    if elmo.state_policy != "carry":
        yield from elmo.embed_stream(sentences, **request)
        return
    while batch := list(islice(sentences, rows)):
        yield from elmo.embed(batch, **request).each()


def _row_shape(elmo: Embedder, output: str) -> tuple[int, ...]:
    """Shape of the vectors of one token, or of one sentence for `default`."""
    shape = token_shape(output, elmo.config, 0)
    return shape if is_pooled(output) else (*shape[:-2], shape[-1])
