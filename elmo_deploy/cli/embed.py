"""`elmo-deploy embed`: embed text into one file or a directory of Parquet parts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from elmo_deploy.cli._options.bundles import BUNDLE, bundle_path
from elmo_deploy.cli._options.text import FORMAT, TEXT, TEXT_FIELD

ALLENNLP_ROWS = 64  # Sentences per batch of `allennlp elmo`.

# The panels of the help text.
INPUT, OUTPUT, MODEL, MIX = "Input", "Output", "Model", "Layer mix"
PARQUET, ALLENNLP = "Parquet directory", "AllenNLP"


def embed(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help=BUNDLE, callback=bundle_path)],
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            help=f"{TEXT} - is stdin.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            help="A file: .hdf5 (AllenNLP's layout), .npz or .safetensors. A name without a suffix"
            " is a directory of Parquet parts, for large inputs.",
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ],
    outputs: Annotated[
        str | None,
        typer.Option(
            help="elmo, word_emb, lstm_outputs1 ..., layers, or default (one vector per sentence)."
            " A Parquet directory takes several, separated by commas.",
            show_default="elmo",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    dtype: Annotated[
        str,
        typer.Option(help="Type of the vectors: float32 or float16.", rich_help_panel=OUTPUT),
    ] = "float32",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the summary as JSON.", rich_help_panel=OUTPUT)
    ] = False,
    mix: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A layer mix of the bundle; `elmo-deploy inspect` lists them.",
            show_default="the first one, or equal weights",
            rich_help_panel=MIX,
        ),
    ] = None,
    mix_weights: Annotated[
        str | None,
        typer.Option(
            metavar="W0,W1,...",
            help="One weight per layer before the softmax, from the token layer up.",
            show_default="those of the mix",
            rich_help_panel=MIX,
        ),
    ] = None,
    gamma: Annotated[
        float | None,
        typer.Option(
            help="Scale of the mixed vectors.",
            show_default="that of the mix, or 1 with --mix-weights",
            rich_help_panel=MIX,
        ),
    ] = None,
    format: Annotated[
        str,
        typer.Option(
            help=FORMAT,
            rich_help_panel=INPUT,
        ),
    ] = "auto",
    text_field: Annotated[
        str,
        typer.Option(
            help=TEXT_FIELD,
            rich_help_panel=INPUT,
        ),
    ] = "text",
    id_field: Annotated[
        str | None,
        typer.Option(
            help="JSON lines and Parquet: the field with the id of the sentence.",
            show_default="no ids",
            rich_help_panel=INPUT,
        ),
    ] = None,
    on_error: Annotated[
        str,
        typer.Option(help="How to handle unreadable lines: fail or skip.", rich_help_panel=INPUT),
    ] = "fail",
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Resume an interrupted run.", rich_help_panel=PARQUET),
    ] = False,
    shard: Annotated[
        str,
        typer.Option(
            help="Embed shard i of n, written i/n, where i starts at 0.", rich_help_panel=PARQUET
        ),
    ] = "0/1",
    part_rows: Annotated[
        int, typer.Option(min=1, help="Maximum sentences per part.", rich_help_panel=PARQUET)
    ] = 5_000,
    part_tokens: Annotated[
        int, typer.Option(min=1, help="Maximum tokens per part.", rich_help_panel=PARQUET)
    ] = 50_000,
    state: Annotated[
        str,
        typer.Option(
            help="State before each sentence: zero, warm or carry.", rich_help_panel=MODEL
        ),
    ] = "zero",
    rows: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="With --state carry: sentences per batch.",
            show_default=f"{ALLENNLP_ROWS}, as in `allennlp elmo`",
            rich_help_panel=ALLENNLP,
        ),
    ] = None,
    backend: Annotated[
        str,
        typer.Option(
            help="auto, tensorrt, onnxruntime-cuda, native or onnxruntime-cpu.",
            rich_help_panel=MODEL,
        ),
    ] = "auto",
    precision: Annotated[
        str, typer.Option(help="auto, or a precision of the bundle.", rich_help_panel=MODEL)
    ] = "auto",
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="CPU threads.",
            show_default="all that the process may use",
            rich_help_panel=MODEL,
        ),
    ] = None,
    gpu_mem_limit: Annotated[
        int | None,
        typer.Option(
            metavar="MIB",
            min=1,
            help="Maximum device memory of ONNX Runtime on CUDA.",
            show_default="no limit",
            rich_help_panel=MODEL,
        ),
    ] = None,
    token_budget: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Maximum tokens per batch, padding included.",
            show_default="depends on the backend",
            rich_help_panel=MODEL,
        ),
    ] = None,
    use_sentence_keys: Annotated[
        bool,
        typer.Option(
            "--use-sentence-keys",
            help="Name the HDF5 datasets by the sentences.",
            rich_help_panel=ALLENNLP,
        ),
    ] = False,
    forget_sentences: Annotated[
        bool,
        typer.Option(
            "--forget-sentences", help="Omit sentence_to_index.", rich_help_panel=ALLENNLP
        ),
    ] = False,
    output: Annotated[str | None, typer.Option(hidden=True)] = None,
    batch: Annotated[int | None, typer.Option(min=1, hidden=True)] = None,
) -> None:
    """Embed sentences into a file or a Parquet directory, in order and in bounded memory."""
    from elmo_deploy.cli._embed.checks import check_directory_options, check_file_options
    from elmo_deploy.cli._embed.directory import embed_directory
    from elmo_deploy.cli._embed.file import embed_file, is_file_name
    from elmo_deploy.cli._options.mixes import mix_options
    from elmo_deploy.cli._options.renamed import renamed
    from elmo_runtime.bulk import BlockLimits, Corpus, Fields, Shard, find_sources
    from elmo_runtime.options import CpuOptions, GpuOptions

    names = (renamed("--output", output, "--outputs", outputs) or "elmo").split(",")
    corpus = Corpus(
        find_sources(inputs, format=format), fields=Fields(text=text_field, id=id_field)
    )
    loading = {
        "backend": backend,
        "precision": precision,
        "state": state,
        "cpu": CpuOptions(threads=threads),
        "gpu": GpuOptions(mem_limit=gpu_mem_limit << 20 if gpu_mem_limit else None),
        "token_budget": renamed("--batch", batch, "--token-budget", token_budget),
    }
    mixing = mix_options(mix, mix_weights, gamma, outputs=names)
    if is_file_name(out):
        check_file_options(
            out, outputs=names, divided=resume or shard != "0/1", rows=rows, state=state
        )
        keys = "sentence" if use_sentence_keys else "forget" if forget_sentences else "index"
        embed_file(
            bundle,
            corpus,
            out,
            output=names[0],
            dtype=dtype,
            keys=keys,
            rows=rows or ALLENNLP_ROWS,
            on_error=on_error,
            mixing=mixing,
            loading=loading,
            as_json=as_json,
        )
        return
    file_options = {
        "--use-sentence-keys": use_sentence_keys,
        "--forget-sentences": forget_sentences,
        "--rows": rows,
    }
    check_directory_options(out, file_options)
    embed_directory(
        bundle,
        corpus,
        out,
        outputs=names,
        dtype=dtype,
        limits=BlockLimits(rows=part_rows, tokens=part_tokens),
        shard=Shard.parse(shard),
        on_error=on_error,
        mixing=mixing,
        resume=resume,
        loading=loading,
        as_json=as_json,
    )
