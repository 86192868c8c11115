"""`elmo-deploy evaluate`: perplexity of held-out text, or scores per sentence or token."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from elmo_deploy.cli._options.text import FORMAT, TEXT, TEXT_FIELD

if TYPE_CHECKING:
    from elmo_export.checkpoint import Checkpoint
    from elmo_runtime.text import Source


def evaluate(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="A trained checkpoint with its softmax.")
    ],
    text: Annotated[
        list[str],
        typer.Option(
            "--text",
            help=f"{TEXT} May be repeated. With --score or --substitutes, - is stdin.",
        ),
    ],
    batch_size: Annotated[
        int, typer.Option(min=1, help="Rows of text per batch; 256 is the default of bilm-tf.")
    ] = 256,
    score: Annotated[
        bool,
        typer.Option(
            "--score",
            help="Print one line per sentence instead: number of tokens, forward and backward"
            " log-probability.",
        ),
    ] = False,
    per_token: Annotated[
        bool,
        typer.Option(
            "--per-token",
            help="With --score: print one line per token, with the number of its sentence.",
        ),
    ] = False,
    substitutes: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Print one line per token instead: the N most probable words in its position.",
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    format: Annotated[str, typer.Option(help=FORMAT)] = "auto",
    text_field: Annotated[str, typer.Option(help=TEXT_FIELD)] = "text",
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Measure the forward and backward perplexity of held-out text, or score its sentences."""
    from elmo_deploy.cli._terminal import console as terminal
    from elmo_deploy.training.data.shards import find_shards
    from elmo_deploy.training.evaluation.perplexity import evaluate as measure
    from elmo_export.checkpoint import Checkpoint
    from elmo_runtime.text import Fields, find_sources

    fields = Fields(text=text_field)
    model = Checkpoint.read(checkpoint)
    _refuse_contradictions(score=score, per_token=per_token, substitutes=substitutes)
    if score or substitutes is not None:
        sources = find_sources(text, format=format, fields=fields)
        if substitutes is not None:
            _print_substitutes(model, sources, n=substitutes, device=device, as_json=as_json)
        elif per_token:
            _print_token_scores(model, sources, device=device, as_json=as_json)
        else:
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
    terminal.stdout().print(
        terminal.table(f"{result.n_tokens:,} tokens", ["measure", "value"], rows)
    )


def _print_scores(
    model: Checkpoint, sources: Sequence[Source], *, device: str, as_json: bool
) -> None:
    """One line per line of the input, including empty ones, so that line numbers agree."""
    from dataclasses import asdict

    from elmo_deploy.training.evaluation.perplexity import score as score_sentences

    for sentence in score_sentences(model, _sentences(sources), device=device):
        if as_json:
            print(json.dumps(asdict(sentence)))
        else:
            print(f"{sentence.n_tokens}\t{sentence.forward:.4f}\t{sentence.backward:.4f}")


def _print_token_scores(
    model: Checkpoint, sources: Sequence[Source], *, device: str, as_json: bool
) -> None:
    """Per token: sentence number, forward and backward log-probability. JSON: per sentence."""
    from dataclasses import asdict

    from elmo_deploy.training.evaluation.predictions import score_tokens

    for number, scores in enumerate(score_tokens(model, _sentences(sources), device=device), 1):
        if as_json:
            print(json.dumps({"tokens": [asdict(score) for score in scores]}, ensure_ascii=False))
            continue
        for score in scores:
            sides = (
                "-" if side is None else f"{side:.4f}" for side in (score.forward, score.backward)
            )
            print(number, score.token, *sides, sep="\t")


def _print_substitutes(
    model: Checkpoint, sources: Sequence[Source], *, n: int, device: str, as_json: bool
) -> None:
    """Per token: sentence number and likely words of both directions. JSON: each direction too."""
    from dataclasses import asdict

    from elmo_deploy.training.evaluation.predictions import substitutes

    found = substitutes(model, _sentences(sources), n=n, device=device)
    for number, tokens in enumerate(found, 1):
        if as_json:
            print(json.dumps({"tokens": [asdict(token) for token in tokens]}, ensure_ascii=False))
            continue
        for token in tokens:
            words = (f"{word.word} {word.probability:.4f}" for word in token.both)
            print(number, token.token, *words, sep="\t")


def _sentences(sources: Sequence[Source]) -> Iterator[Sequence[str]]:
    from elmo_deploy.training.data.shards import read_records

    return (record.tokens for source in sources for record in read_records(source))


def _refuse_contradictions(*, score: bool, per_token: bool, substitutes: int | None) -> None:
    from elmo_runtime.errors import InputError

    if per_token and not score:
        raise InputError("--per-token is given without --score", hint="add --score")
    if score and substitutes is not None:
        raise InputError(
            "--score and --substitutes cannot be combined", hint="run the command once for each"
        )
