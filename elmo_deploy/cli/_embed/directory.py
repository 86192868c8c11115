"""Embed a corpus into a directory of Parquet parts, which can be resumed and divided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from elmo_deploy.cli._terminal import console as terminal
from elmo_deploy.cli._terminal.console import counted
from elmo_deploy.cli._terminal.meter import Meter
from elmo_runtime.bulk import BlockLimits, Corpus, Shard, Summary, embedding_job
from elmo_runtime.bulk.journal import check_folder
from elmo_runtime.embedder import Embedder
from elmo_runtime.errors import InputError
from elmo_runtime.signals import StopRequest


def embed_directory(
    bundle: Path,
    corpus: Corpus,
    out: Path,
    *,
    outputs: Sequence[str],
    dtype: str,
    limits: BlockLimits,
    shard: Shard,
    on_error: str,
    resume: bool,
    mixing: Mapping[str, Any],
    loading: Mapping[str, Any],
    as_json: bool,
) -> None:
    """Embed one shard of a corpus into `out` and print a summary.

    SIGTERM and Ctrl-C stop after the current part; a second one stops immediately.
    """
    if loading["state"] == "carry":
        raise InputError(
            "parts of a directory cannot carry a state", hint="use --state zero or --state warm"
        )
    check_folder(out)
    with StopRequest() as stop, Embedder.load(bundle, **loading) as elmo:
        job = embedding_job(
            elmo,
            out,
            outputs=outputs,
            dtype=dtype,
            limits=limits,
            shard=shard,
            on_error=on_error,
            resume=resume,
            **mixing,
        )
        with Meter(job) as meter:
            summary = job.run(corpus, stop=lambda: stop.requested, on_sentence=meter.add)
        in_use = {"backend": elmo.backend, "precision": elmo.precision}
        cut, room = elmo.stats().cut_tokens, elmo.config.max_characters_per_token - 2
    terminal.report_skipped(summary.skipped)
    terminal.report_cut(cut, room)
    if as_json:
        counts = {**vars(summary), "cut_tokens": cut, "skipped": len(summary.skipped)}
        terminal.print_json({"folder": str(out), **meter.summary(), **counts, **in_use})
    else:
        terminal.stderr().print(f"{meter} on {in_use['backend']} in {in_use['precision']}")
        terminal.stderr().print(f"{_parts(summary)} -> {out}")


def _parts(summary: Summary) -> str:
    text = f"{counted(summary.parts_written, 'part')} written"
    text += f", {summary.parts_found:,} already complete:"
    text += f" {counted(summary.sentences, 'sentence')}"
    text += f", {counted(len(summary.skipped), 'line')} skipped"
    return f"{text}; stopped before the end, continue with --resume" if summary.stopped else text
