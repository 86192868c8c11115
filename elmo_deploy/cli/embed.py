"""`elmo-deploy embed`: sentences, one a line -> one file of vectors."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from elmo_runtime.bulk import Corpus
    from elmo_runtime.embedder import Embedder
    from elmo_runtime.outputs import Embeddings


def embed(
    bundle: Annotated[Path, typer.Argument(help="The bundle directory.")],
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT", help="Sentences, one a line, tokens between spaces; - is stdin."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            help=".hdf5 (AllenNLP's layout), .npz or .safetensors.",
            show_default=False,
        ),
    ],
    output: Annotated[
        str,
        typer.Option(help="elmo, word_emb, lstm_outputs1 ..., layers, or default: one a sentence."),
    ] = "elmo",
    dtype: Annotated[str, typer.Option(help="float32 or float16.")] = "float32",
    state: Annotated[str, typer.Option(help="zero, warm or carry.")] = "zero",
    rows: Annotated[
        int, typer.Option(min=1, help="With --state carry: sentences a batch; AllenNLP's are 64.")
    ] = 64,
    backend: Annotated[
        str, typer.Option(help="auto, tensorrt, onnxruntime-cuda or onnxruntime-cpu.")
    ] = "auto",
    precision: Annotated[str, typer.Option(help="auto, or one that the bundle holds.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads, by default all.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Most tokens computed at once.")] = 2048,
    use_sentence_keys: Annotated[
        bool, typer.Option("--use-sentence-keys", help="HDF5: the sentences name the datasets.")
    ] = False,
    forget_sentences: Annotated[
        bool, typer.Option("--forget-sentences", help="HDF5: write no sentence_to_index.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Embed sentences into a file, in order and in bounded memory."""
    from elmo_deploy.cli import terminal
    from elmo_deploy.cli.meter import Meter
    from elmo_runtime.bulk import Corpus, find_sources
    from elmo_runtime.embedder import Embedder
    from elmo_runtime.outputs import checked_outputs
    from elmo_runtime.writers import check_target, open_writer

    keys = "sentence" if use_sentence_keys else "forget" if forget_sentences else "index"
    check_target(out, dtype=dtype, keys=keys)
    corpus = Corpus(find_sources([source]))
    with Embedder.load(
        bundle,
        backend=backend,
        precision=precision,
        state=state,
        threads=threads,
        token_budget=batch,
    ) as elmo:
        (output,) = checked_outputs(output, elmo.config)
        shape = _row_shape(elmo, output)
        texts: deque[str] = deque()  # of the sentences that were read and are not yet written
        stream = _vectors(elmo, _tokens(corpus, texts), output, dtype, rows, state)
        with (
            open_writer(out, row_shape=shape, dtype=dtype, keys=keys) as writer,
            Meter(corpus) as meter,
        ):
            for one in stream:
                writer.add(texts.popleft(), one[output][0])
                meter.add(int(one.lengths[0]))
        in_use = {"backend": elmo.backend, "precision": elmo.precision}
    if as_json:
        terminal.print_json({"file": str(out), **meter.summary(), **in_use})
    else:
        where = f"on {in_use['backend']} in {in_use['precision']}"
        terminal.stderr().print(f"{meter} {where} -> {out}")


def _tokens(corpus: Corpus, texts: deque[str]) -> Iterator[tuple[str, ...]]:
    """The sentences of the corpus; what each one says is left in `texts`."""
    from elmo_runtime.bulk import BadRecord
    from elmo_runtime.errors import InputError

    for record in corpus:
        if isinstance(record, BadRecord):
            raise InputError(str(record), hint="mend or remove the line")
        texts.append(" ".join(record.tokens))
        yield record.tokens


def _vectors(
    elmo: Embedder,
    sentences: Iterator[tuple[str, ...]],
    output: str,
    dtype: str,
    rows: int,
    state: str,
) -> Iterator[Embeddings]:
    """Each sentence as Embeddings of its own; a carried state goes from batch to batch by rows."""
    if state != "carry":
        yield from elmo.embed_stream(sentences, outputs=[output], dtype=dtype)
        return
    while batch := list(islice(sentences, rows)):
        yield from elmo.embed(batch, outputs=[output], dtype=dtype).each()


def _row_shape(elmo: Embedder, output: str) -> tuple[int, ...]:
    """What one token gets, or one sentence where the output has no tokens."""
    from elmo_runtime.outputs import Output, token_shape

    shape = token_shape(output, elmo.config, 0)
    return shape if output == Output.DEFAULT else (*shape[:-2], shape[-1])
