"""`elmo-deploy vocabulary`: text -> vocab.txt."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from elmo_deploy.cli._options.text import FORMAT, TEXT_FIELD


def vocabulary(
    text: Annotated[
        list[str],
        typer.Argument(
            help="Files, folders or quoted patterns: text, .jsonl, .parquet, .fasta or .conllu,"
            " plain or .gz. - is stdin."
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The vocab.txt to write.", show_default=False)
    ],
    max_size: Annotated[
        int | None,
        typer.Option(
            help="Maximum number of lines, <S>, </S> and <UNK> included.", show_default="no limit"
        ),
    ] = None,
    min_count: Annotated[int, typer.Option(help="Leave out words that occur less often.")] = 1,
    format: Annotated[str, typer.Option(help=FORMAT)] = "auto",
    text_field: Annotated[str, typer.Option(help=TEXT_FIELD)] = "text",
) -> None:
    """Count the tokens of a text; write <S>, </S>, <UNK> and the tokens by falling count."""
    from elmo_deploy.cli._terminal import console as terminal
    from elmo_deploy.training.data.shards import read_all_sentences
    from elmo_deploy.training.data.vocabulary import Vocabulary
    from elmo_runtime.files.atomic import check_file, refuse_inputs
    from elmo_runtime.text import Fields, find_sources

    sources = find_sources(text, format=format, fields=Fields(text=text_field))
    refuse_inputs(out, [source.path for source in sources])
    check_file(out)
    sentences = read_all_sentences(sources)
    counted = Vocabulary.count(sentences, max_size=max_size, min_count=min_count)
    counted.write(out)
    terminal.stdout().print(f"{len(counted):,} lines written to {out}")
