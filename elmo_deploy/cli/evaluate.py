"""`elmo-deploy evaluate`: the perplexity of held-out text, or the score of each sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from elmo_export.checkpoint import Checkpoint


def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="A trained checkpoint with its softmax.")],
    text: Annotated[
        list[str], typer.Option("--text", help="Text files or a quoted pattern; may be repeated.")
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
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print the forward, backward and mean perplexity of held-out text."""
    from elmo_deploy.cli import terminal
    from elmo_deploy.training.evaluation import evaluate as measure
    from elmo_deploy.training.shards import find_shards
    from elmo_export.checkpoint import Checkpoint

    model, shards = Checkpoint.read(checkpoint), find_shards(text)
    if score:
        _print_scores(model, shards, device=device, as_json=as_json)
        return
    result = measure(model, shards=shards, batch_size=batch_size, device=device)
    figures = {
        "forward_perplexity": result.forward_perplexity,
        "backward_perplexity": result.backward_perplexity,
        "perplexity": result.perplexity,
        "n_tokens": result.n_tokens,
        "batch_size": batch_size,
    }
    if as_json:
        terminal.print_json(figures)
        return
    rows = [[name.replace("_", " "), f"{value:,.2f}"] for name, value in list(figures.items())[:3]]
    terminal.stdout().print(terminal.table(f"{result.n_tokens:,} tokens", ["", ""], rows))


def _print_scores(
    model: Checkpoint, shards: tuple[Path, ...], *, device: str, as_json: bool
) -> None:
    from dataclasses import asdict

    from elmo_deploy.training.evaluation import score as score_sentences
    from elmo_deploy.training.shards import read_all_sentences

    for sentence in score_sentences(model, read_all_sentences(shards), device=device):
        if as_json:
            print(json.dumps(asdict(sentence)))
        else:
            print(f"{sentence.n_tokens}\t{sentence.forward:.4f}\t{sentence.backward:.4f}")
