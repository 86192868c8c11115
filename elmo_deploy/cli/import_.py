"""`elmo-deploy import`: convert the files of bilm-tf, AllenNLP or SeqVec to a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from elmo_export.checkpoint import Checkpoint

FORMS = """one of
elmo-deploy import --options options.json --weights weights.hdf5 -o CHECKPOINT,
elmo-deploy import --archive model.tar.gz [--options options.json] -o CHECKPOINT,
elmo-deploy import --to-hdf5 CHECKPOINT -o DIRECTORY"""


LAYER_NORM = (
    "note: the layer norm takes its statistics per sentence; AllenNLP takes them over the batch,"
    " boundary tokens included, so vectors differ"
)


def import_(
    output: Annotated[
        Path, typer.Option("--out", "-o", help="The directory to write.", show_default=False)
    ],
    options: Annotated[Path | None, typer.Option(help="options.json of the weights.")] = None,
    weights: Annotated[Path | None, typer.Option(help="weights.hdf5.")] = None,
    archive: Annotated[
        Path | None, typer.Option(help="AllenNLP's model.tar.gz of a trained model.")
    ] = None,
    to_hdf5: Annotated[
        Path | None,
        typer.Option(
            metavar="CHECKPOINT",
            help="The opposite: write this checkpoint as options.json and weights.hdf5.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Convert published weights to a checkpoint, or a checkpoint back to such weights."""
    from elmo_runtime.errors import InputError

    match options, weights, archive, to_hdf5:
        case Path(), Path(), None, None:
            from elmo_deploy.importers.bilm_hdf5 import import_hdf5

            _check(output)
            _write(import_hdf5(options, weights), output, as_json=as_json)
        case _, None, Path(), None:
            from elmo_deploy.importers.allennlp_archive import import_archive

            _check(output)
            _write(import_archive(archive, options=options), output, as_json=as_json)
        case None, None, None, Path():
            _write_hdf5(to_hdf5, output, as_json=as_json)
        case _:
            raise InputError("these options cannot be combined", hint=FORMS)


def _check(output: Path) -> None:
    """Reject a directory that cannot be written, before the weights are read."""
    from elmo_export.own_files import CHECKPOINT_FORMAT
    from elmo_runtime.files.atomic import check_directory

    check_directory(output, kind=CHECKPOINT_FORMAT)


def _write(checkpoint: Checkpoint, output: Path, *, as_json: bool) -> None:
    from elmo_deploy.cli._terminal import console as terminal
    from elmo_deploy.cli.inspect import count_parameters

    checkpoint.write(output)
    console = terminal.stderr()
    parameters = count_parameters(checkpoint.config)
    if any(mix.layer_norm for mix in checkpoint.mixes):
        console.print(LAYER_NORM)
    if as_json:
        names = [mix.name for mix in checkpoint.mixes]
        terminal.print_json({"checkpoint": str(output), "parameters": parameters, "mixes": names})
        return
    console.print(f"{parameters:,} parameters -> {output}")
    for mix in checkpoint.mixes:
        weights = ", ".join(f"{weight:.6g}" for weight in mix.weights)
        console.print(f"layer mix {mix.name}: weights {weights}; gamma {mix.gamma:.6g}")
    console.print(f"next: elmo-deploy export {output} -o BUNDLE")


def _write_hdf5(checkpoint_path: Path, output: Path, *, as_json: bool) -> None:
    from elmo_deploy.cli._terminal import console as terminal
    from elmo_deploy.importers.bilm_hdf5 import export_hdf5
    from elmo_export.checkpoint import Checkpoint

    options, weights = output / "options.json", output / "weights.hdf5"
    checkpoint = Checkpoint.read(checkpoint_path)
    export_hdf5(checkpoint, options, weights)
    console = terminal.stderr()
    if checkpoint.mixes:
        names = ", ".join(mix.name for mix in checkpoint.mixes)
        console.print(f"note: the format cannot store layer mixes, so these are omitted: {names}")
    if as_json:
        terminal.print_json({"options": str(options), "weights": str(weights)})
        return
    console.print(f"{options} and {weights} can be read by AllenNLP and bilm-tf")
