"""`elmo-deploy evaluate`: the perplexity of held-out text, or the score of each sentence."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from elmo_deploy.cli.text_options import FORMAT, TEXT_FIELD

if TYPE_CHECKING:
    from elmo_export.checkpoint import Checkpoint
    from elmo_runtime.text import Source


def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="A trained checkpoint with its softmax.")],
    text: Annotated[
        list[str],
        typer.Option(
            "--text",
            help="Files, folders or a quoted pattern: text, .jsonl, .parquet, .fasta or .conllu,"
            " plain or .gz; repeatable. With --score - is stdin.",
        ),
    ],
    batch_size: Annotated[
        int, typer.Option(min=1, help="Rows of text per batch (256 is bilm-tf's default).")
    ] = 256,
    score: Annotated[
        bool,
        typer.Option(
            "--score",
            help="Print one line per sentence instead: its tokens, forward and backward"
            " log-probability.",
        ),
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    format: Annotated[str, typer.Option(help=FORMAT)] = "auto",
    text_field: Annotated[str, typer.Option(help=TEXT_FIELD)] = "text",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print the forward, backward and mean perplexity of held-out text."""
    from elmo_deploy.cli import terminal
    from elmo_deploy.training.evaluation import evaluate as measure
    from elmo_deploy.training.shards import find_shards
    from elmo_export.checkpoint import Checkpoint
    from elmo_runtime.text import Fields, find_sources

    fields = Fields(text=text_field)
    model = Checkpoint.read(checkpoint)
    if score:
        sources = find_sources(text, format=format, fields=fields)
        _print_scores(model, sources, device=device, as_json=as_json)
        return
    shards = find_shards(text, format=format, fields=fields)
    result = measure(model, shards=shards, batch_size=batch_size, device=device)
    figures = {
        "forward_perplexity": result.forward_perplexity,
        "backward_perplexity": result.backward_perplexity,
        "perplexity": result.perplexity,
        "n_tokens": result.n_tokens,
        "unknown_share": result.unknown_share,
        "batch_size": batch_size,
    }
    if as_json:
        terminal.print_json(figures)
        return
    rows = [[name.replace("_", " "), f"{value:,.2f}"] for name, value in list(figures.items())[:3]]
    rows.append(["unknown words", f"{result.unknown_share:.1%}"])
    terminal.stdout().print(terminal.table(f"{result.n_tokens:,} tokens", ["", ""], rows))


def _print_scores(
    model: Checkpoint, sources: Sequence[Source], *, device: str, as_json: bool
) -> None:
    """One line per sentence of the input, the empty ones too, so that both line up."""
    from dataclasses import asdict

    from elmo_deploy.training.evaluation import score as score_sentences
    from elmo_deploy.training.shards import read_records

    sentences = (record.tokens for source in sources for record in read_records(source))
    for sentence in score_sentences(model, sentences, device=device):
        if as_json:
            print(json.dumps(asdict(sentence)))
        else:
            print(f"{sentence.n_tokens}\t{sentence.forward:.4f}\t{sentence.backward:.4f}")
