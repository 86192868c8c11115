"""`elmo-deploy vocabulary`: count the tokens of text into vocab.txt."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from elmo_deploy.cli._options.text import FORMAT, TEXT, TEXT_FIELD


def vocabulary(
    text: Annotated[
        list[str],
        typer.Argument(metavar="TEXT", help=f"{TEXT} - is stdin."),
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
    min_count: Annotated[int, typer.Option(help="Omit words that occur less often.")] = 1,
    format: Annotated[str, typer.Option(help=FORMAT)] = "auto",
    text_field: Annotated[str, typer.Option(help=TEXT_FIELD)] = "text",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Count the tokens of text; write <S>, </S>, <UNK> and the tokens, most frequent first."""
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
    if as_json:
        terminal.print_json({"vocabulary": str(out), "lines": len(counted)})
        return
    terminal.stdout().print(f"{len(counted):,} lines written to {out}")
