"""`elmo-deploy embed`: sentences of any number of inputs -> one file, or a folder of parts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

FOLDER = "when OUT is a folder"
ALLENNLP_ROWS = 64  # sentences of a batch of `allennlp elmo`


def embed(
    bundle: Annotated[Path, typer.Argument(help="The bundle directory.")],
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Files, folders or globs: text with a sentence a line, .jsonl, .parquet; the first"
            " two also as .gz. - is stdin.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            help="A file: .hdf5 (AllenNLP's layout), .npz or .safetensors. A name without a suffix"
            " is a folder of Parquet parts, for large inputs: it survives interruption.",
            show_default=False,
        ),
    ],
    output: Annotated[
        str,
        typer.Option(
            help="elmo, word_emb, lstm_outputs1 ..., layers, or default: one a sentence."
            f" Several, between commas, {FOLDER}."
        ),
    ] = "elmo",
    dtype: Annotated[str, typer.Option(help="float32 or float16.")] = "float32",
    format: Annotated[
        str, typer.Option(help="Of the inputs: text, jsonl or parquet; auto goes by the name.")
    ] = "auto",
    text_field: Annotated[
        str, typer.Option(help="JSON lines and Parquet: where the text, or the tokens, are.")
    ] = "text",
    id_field: Annotated[
        str | None, typer.Option(help="JSON lines and Parquet: what names a sentence.")
    ] = None,
    on_error: Annotated[
        str, typer.Option(help="fail or skip: what a line that gives no sentence does.")
    ] = "fail",
    resume: Annotated[
        bool, typer.Option("--resume", help=f"Go on with what was begun, {FOLDER}.")
    ] = False,
    shard: Annotated[
        str, typer.Option(help=f"i/n: do one part in n, i from 0 to n - 1, {FOLDER}.")
    ] = "0/1",
    part_rows: Annotated[
        int, typer.Option(min=1, help=f"Most sentences of a part, {FOLDER}.")
    ] = 5_000,
    part_tokens: Annotated[
        int, typer.Option(min=1, help=f"Most tokens of a part, {FOLDER}.")
    ] = 50_000,
    state: Annotated[str, typer.Option(help="zero, warm or carry.")] = "zero",
    rows: Annotated[
        int | None,
        typer.Option(min=1, help="With --state carry: sentences a batch, by default 64."),
    ] = None,
    backend: Annotated[
        str, typer.Option(help="auto, tensorrt, onnxruntime-cuda or onnxruntime-cpu.")
    ] = "auto",
    precision: Annotated[str, typer.Option(help="auto, or one that the bundle holds.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads, by default all.")] = None,
    batch: Annotated[
        int | None,
        typer.Option(min=1, help="Most tokens at once, by default as suits the backend."),
    ] = None,
    use_sentence_keys: Annotated[
        bool, typer.Option("--use-sentence-keys", help="HDF5: the sentences name the datasets.")
    ] = False,
    forget_sentences: Annotated[
        bool, typer.Option("--forget-sentences", help="HDF5: write no sentence_to_index.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Embed sentences, in order and in bounded memory."""
    from elmo_deploy.cli.embed_file import embed_file, is_file_name
    from elmo_deploy.cli.embed_folder import embed_folder
    from elmo_runtime.bulk import BlockLimits, Corpus, Fields, Shard, find_sources
    from elmo_runtime.errors import InputError

    if use_sentence_keys and forget_sentences:
        raise InputError("--use-sentence-keys and --forget-sentences exclude each other")
    corpus = Corpus(
        find_sources(inputs, format=format), fields=Fields(text=text_field, id=id_field)
    )
    loading = {
        "backend": backend,
        "precision": precision,
        "state": state,
        "threads": threads,
        "token_budget": batch,
    }
    if is_file_name(out):
        if resume or shard != "0/1":
            raise InputError(
                f"{out} is one file, which can be neither resumed nor divided",
                hint="name a folder: -o vectors/",
            )
        keys = "sentence" if use_sentence_keys else "forget" if forget_sentences else "index"
        embed_file(
            bundle,
            corpus,
            out,
            output=output,
            dtype=dtype,
            keys=keys,
            rows=rows or ALLENNLP_ROWS,
            on_error=on_error,
            loading=loading,
            as_json=as_json,
        )
        return
    of_a_file = {
        "--use-sentence-keys": use_sentence_keys,
        "--forget-sentences": forget_sentences,
        "--rows": rows,
    }
    for option in (option for option, given in of_a_file.items() if given):
        raise InputError(
            f"{option} has no meaning with --out {out}, a folder", hint="name a file: -o out.hdf5"
        )
    embed_folder(
        bundle,
        corpus,
        out,
        outputs=output.split(","),
        dtype=dtype,
        limits=BlockLimits(rows=part_rows, tokens=part_tokens),
        shard=Shard.parse(shard),
        on_error=on_error,
        resume=resume,
        loading=loading,
        as_json=as_json,
    )
