"""`elmo-deploy verify`: compare a bundle with the reference model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from elmo_deploy.cli._options.bundles import bundle_path


def verify(
    bundle: Annotated[
        Path, typer.Argument(metavar="BUNDLE", help="The bundle directory.", callback=bundle_path)
    ],
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="The checkpoint to compare with.",
            show_default="the weights inside the fp32 graphs",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Check every digest of a bundle, and compare every output with the reference model.

    The exit code is 3 if an output differs by more than its tolerance.
    """
    from dataclasses import asdict

    from elmo_deploy.api import verify as verify_bundle
    from elmo_deploy.cli._terminal import console as terminal
    from elmo_deploy.cli._terminal import progress as reporting

    with reporting.Cost() as cost, reporting.progress() as on_progress:
        rows = verify_bundle(bundle, checkpoint=checkpoint, on_progress=on_progress)
    table = [asdict(row) for row in rows]
    if as_json:
        terminal.print_json({"bundle": str(bundle), **cost.figures(), "parity": table})
        return
    terminal.stdout().print(reporting.table(table))
    terminal.stdout().print(f"{bundle} is intact and agrees with the reference model: {cost}")
