"""`elmo-deploy export`: convert a checkpoint to a verified bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="The checkpoint directory.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The bundle directory.", show_default=False)
    ],
    precision: Annotated[
        list[str] | None,
        typer.Option(help="fp32, fp16, bf16 or int8; may be repeated.", show_default="fp32"),
    ] = None,
    joined: Annotated[
        bool,
        typer.Option("--joined", help="Add one self-contained graph for other runtimes."),
    ] = False,
    warm: Annotated[
        Path | None,
        typer.Option(
            metavar="TEXT",
            help="A text file with one sentence per line: the mean of the last states becomes the"
            " warm state.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Export a checkpoint to a bundle and compare every output with the reference model."""
    from elmo_deploy.api import export as export_checkpoint
    from elmo_deploy.cli._terminal import console as terminal
    from elmo_deploy.cli._terminal import progress as reporting

    with reporting.Cost() as cost, reporting.progress() as on_progress:
        bundle = export_checkpoint(
            checkpoint,
            out,
            precisions=precision or "fp32",
            joined=joined,
            warm_sentences=_sentences(warm) if warm else None,
            on_progress=on_progress,
        )
    if as_json:
        terminal.print_json(
            {"bundle": str(out), **cost.figures(), "parity": bundle.manifest.parity}
        )
        return
    console = terminal.stdout()
    console.print(reporting.table(bundle.manifest.parity))
    console.print(f"verified and written to {out}: {cost}")
    console.print(f"next: elmo-deploy embed {out} SENTENCES.txt -o VECTORS.hdf5")


def _sentences(text: Path) -> list[list[str]]:
    from elmo_runtime.bulk import BadRecord, Corpus, find_sources
    from elmo_runtime.errors import InputError

    sentences = []
    for record in Corpus(find_sources([str(text)])):
        if isinstance(record, BadRecord):
            raise InputError(str(record))
        sentences.append(list(record.tokens))
    return sentences
