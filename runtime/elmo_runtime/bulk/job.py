"""A corpus -> a directory of Parquet parts, resumable and divisible among machines.

It reads the entire input, cuts it into blocks and writes its own blocks that are not done yet. It
is independent of the command line and of graphs: vectors come from a function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from elmo_runtime.bulk.blocks import Block, BlockLimits, blocks
from elmo_runtime.bulk.journal import Folder, PartRecord
from elmo_runtime.bulk.parquet import ParquetPart
from elmo_runtime.bulk.progress import Shard, Summary
from elmo_runtime.errors import InputError
from elmo_runtime.files.atomic import atomic_file, sha256_of
from elmo_runtime.files.storage import write_errors
from elmo_runtime.text.records import BadRecord, Record

Vectors = Mapping[str, NDArray[Any]]  # output name -> (n_tokens, width), or pooled
SCHEMA = 1  # of the directory; increases when the content of the parts changes
ON_ERROR = ("fail", "skip")
DTYPES = ("float16", "float32")


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The outputs to write and their widths; pooled outputs have one vector per sentence."""

    widths: Mapping[str, int]
    pooled: tuple[str, ...] = ()
    dtype: str = "float32"

    def __post_init__(self) -> None:
        """Reject dtypes that readers of Parquet do not accept for vectors."""
        if self.dtype not in DTYPES:
            raise InputError(f"dtype is {self.dtype!r}", hint=f"use {' or '.join(DTYPES)}")


class BulkJob:
    """Embeds a corpus into a directory.

    vectors_of: sentences -> their vectors, in order. refuses: the reason why a sentence cannot
    be embedded, or "". settings: what else determines the vectors (bundle, backend, weights). A
    directory that was begun with other settings is refused with InputError.
    """

    def __init__(
        self,
        target: Path,
        *,
        vectors_of: Callable[[Sequence[tuple[str, ...]]], Iterable[Vectors]],
        columns: Columns,
        settings: Mapping[str, Any],
        refuses: Callable[[tuple[str, ...]], str] = lambda tokens: "",
        limits: BlockLimits | None = None,
        shard: Shard | None = None,
        on_error: str = "fail",
        resume: bool = False,
    ) -> None:
        if on_error not in ON_ERROR:
            raise InputError(f"on_error is {on_error!r}", hint=f"use {' or '.join(ON_ERROR)}")
        self._vectors_of, self._refuses, self._columns = vectors_of, refuses, columns
        self._limits, self._shard = limits or BlockLimits(), shard or Shard()
        self._on_error, self._resume = on_error, resume
        self._span: tuple[float | None, float | None] = (
            0.0,
            0.0,
        )  # input read before this block, and after it
        self._share_of_block = 1.0
        of_the_folder = {"schema": SCHEMA, **asdict(columns), "limits": asdict(self._limits)}
        with write_errors(target):
            self._folder = Folder(target, {**of_the_folder, **settings})

    def run(
        self,
        lines: Iterable[Record | BadRecord],
        *,
        stop: Callable[[], bool] = lambda: False,
        on_sentence: Callable[[int], object] = lambda tokens: None,
    ) -> Summary:
        """Write every missing part of this worker, in order.

        stop is called between blocks: true ends the run, and all finished parts are complete.
        on_sentence gets the number of tokens of each sentence. Raises InputError for a bad line
        when on_error is "fail", ArtifactError when the disk is full; a later run with `resume`
        continues there.
        """
        summary = Summary()
        for block in blocks(lines, self._limits):
            if stop():
                summary.stopped = True
                break
            self._span = self._span[1], getattr(lines, "fraction_read", None)
            if self._shard.owns(block.number):
                self._finish(block, summary, on_sentence)
        return summary

    @property
    def fraction_read(self) -> float | None:
        """The finished share of the input, 0..1: what was read, without the rest of this block."""
        before, after = self._span
        if after is None:
            return None
        return (before or 0.0) + (after - (before or 0.0)) * self._share_of_block

    def _finish(self, block: Block, summary: Summary, on_sentence: Callable[[int], object]) -> None:
        part = self._folder.part(block.number)
        if not self._resume and self._folder.begun(block.number):
            raise InputError(f"{part} exists already", hint="resume, or write to another directory")
        entry = self._folder.finished(block.number, block.digest)
        if entry is None:
            entry = self._write(block, on_sentence)
            summary.parts_written += 1
        else:
            summary.parts_found += 1
        summary.sentences += entry.sentences
        summary.tokens += entry.tokens
        summary.skipped += entry.skipped

    def _write(self, block: Block, on_sentence: Callable[[int], object]) -> PartRecord:
        records, skipped = self._sort_out(block)
        self._share_of_block = 0.0 if records else 1.0
        part = self._folder.part(block.number)
        with atomic_file(part) as scratch, self._open_part(scratch) as writer:
            vectors_of_all = self._vectors_of([record.tokens for record in records])
            pairs = zip(records, vectors_of_all, strict=True)
            for number, (record, vectors) in enumerate(pairs, start=1):
                writer.add(record.id, record.tokens, vectors)
                self._share_of_block = number / len(records)
                on_sentence(len(record.tokens))
        with write_errors(part):
            entry = PartRecord(
                input_sha256=block.digest,
                part_bytes=part.stat().st_size,
                part_sha256=sha256_of(part),
                sentences=len(records),
                tokens=sum(len(record.tokens) for record in records),
                skipped=skipped,
            )
            self._folder.enter(block.number, entry)
        return entry

    def _sort_out(self, block: Block) -> tuple[list[Record], tuple[str, ...]]:
        """The sentences to embed, and a line for every skipped one."""
        failures = list(block.failures)
        records = []
        for record in block.records:
            if reason := self._refuses(record.tokens):
                failures.append(BadRecord(record.where, reason))
            else:
                records.append(record)
        if failures and self._on_error == "fail":
            raise InputError(str(failures[0]), hint="fix the line, or skip such lines")
        return records, tuple(str(failure) for failure in failures)

    def _open_part(self, path: Path) -> ParquetPart:
        columns = self._columns
        return ParquetPart(path, columns=columns.widths, pooled=columns.pooled, dtype=columns.dtype)
