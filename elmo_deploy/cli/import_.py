"""`elmo-deploy import`: the files of bilm-tf, AllenNLP or SeqVec <-> a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def import_(
    output: Annotated[
        Path, typer.Option("--out", "-o", help="The directory to write.", show_default=False)
    ],
    options: Annotated[Path | None, typer.Option(help="The options.json of the weights.")] = None,
    weights: Annotated[Path | None, typer.Option(help="The weights.hdf5.")] = None,
    to_hdf5: Annotated[
        Path | None,
        typer.Option(
            metavar="CHECKPOINT",
            help="The way back: write this checkpoint as options.json and weights.hdf5.",
        ),
    ] = None,
) -> None:
    """Turn published weights into a checkpoint, or a checkpoint into such weights."""
    from elmo_runtime.errors import InputError

    if to_hdf5 is not None and options is None and weights is None:
        _write_hdf5(to_hdf5, output)
    elif to_hdf5 is None and options is not None and weights is not None:
        _read_hdf5(options, weights, output)
    else:
        raise InputError(
            "import takes --options and --weights, or --to-hdf5 and neither of them",
            hint="elmo-deploy import --options options.json --weights weights.hdf5 -o CHECKPOINT",
        )


def _read_hdf5(options: Path, weights: Path, output: Path) -> None:
    from elmo_deploy.cli import terminal
    from elmo_deploy.cli.inspect import count_parameters
    from elmo_deploy.importers.bilm_hdf5 import import_hdf5

    checkpoint = import_hdf5(options, weights)
    checkpoint.write(output)
    terminal.stderr().print(f"{count_parameters(checkpoint.config):,} parameters -> {output}")
    terminal.stderr().print(f"next: elmo-deploy export {output} -o BUNDLE")


def _write_hdf5(folder: Path, output: Path) -> None:
    from elmo_deploy.cli import terminal
    from elmo_deploy.importers.bilm_hdf5 import export_hdf5
    from elmo_export.checkpoint import Checkpoint

    options, weights = output / "options.json", output / "weights.hdf5"
    output.mkdir(parents=True, exist_ok=True)
    export_hdf5(Checkpoint.read(folder), options, weights)
    terminal.stderr().print(f"{options} and {weights} can be read by AllenNLP and bilm-tf")
