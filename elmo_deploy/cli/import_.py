"""`elmo-deploy import`: weights of bilm-tf, AllenNLP, TF Hub or SeqVec <-> a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from elmo_deploy.importers.detect import Imported

FORMS = """one of
elmo-deploy import PATH [--options options.json] [--vocab vocab.txt] -o CHECKPOINT,
elmo-deploy import --options options.json --weights weights.hdf5 -o CHECKPOINT,
elmo-deploy import --to-hdf5 CHECKPOINT -o DIRECTORY"""

LAYER_NORM = (
    "note: the layer norm takes its statistics per sentence; AllenNLP takes them over the batch,"
    " boundary tokens included, so vectors differ"
)


def import_(
    output: Annotated[
        Path, typer.Option("--out", "-o", help="The directory to write.", show_default=False)
    ],
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="PATH",
            help="weights.hdf5, AllenNLP's model.tar.gz, a TensorFlow checkpoint of bilm-tf, a"
            " copy of TF Hub's module, or a .zip, .tar.gz or directory with one of them. An"
            " http(s) URL is downloaded.",
            show_default=False,
        ),
    ] = None,
    options: Annotated[
        str | None, typer.Option(help="options.json or its URL, if PATH does not contain it.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="weights.hdf5 or its URL.")] = None,
    sha256: Annotated[
        str | None, typer.Option(help="The SHA-256 digest that PATH or the weights must have.")
    ] = None,
    vocab: Annotated[
        Path | None,
        typer.Option(help="The vocabulary of the softmax in a TensorFlow checkpoint."),
    ] = None,
    archive: Annotated[
        str | None, typer.Option(help="The same as PATH, for AllenNLP's model.tar.gz.")
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

    given = [path for path in (source, weights, archive, to_hdf5) if path is not None]
    if len(given) != 1 or (weights and not options) or (to_hdf5 and (options or vocab or sha256)):
        raise InputError("these options cannot be combined", hint=FORMS)
    if to_hdf5 is not None:
        _write_hdf5(to_hdf5, output, as_json=as_json)
        return
    from elmo_deploy.importers.detect import Companions, import_path

    _check(output)
    companions = Companions(options=_local(options) if options else None, vocabulary=vocab)
    imported = import_path(_local(str(given[0]), sha256), companions)
    _write(imported, output, as_json=as_json)


def _local(source: str, sha256: str | None = None) -> Path:
    """The path, or the downloaded file of a URL, with the given digest."""
    from elmo_deploy.importers.download import check_file_digest, download, is_url

    if not is_url(source):
        check_file_digest(Path(source), sha256)
        return Path(source)
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    from elmo_deploy.cli._terminal import console as terminal

    columns = (BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=terminal.stderr(), transient=True) as bar:
        task = bar.add_task("", total=None)
        return download(
            source,
            sha256=sha256,
            report=lambda done, total: bar.update(task, completed=done, total=total),
        )


def _check(output: Path) -> None:
    """Reject a directory that cannot be written, before the weights are read."""
    from elmo_export.own_files import CHECKPOINT_FORMAT
    from elmo_runtime.files.atomic import check_directory

    check_directory(output, kind=CHECKPOINT_FORMAT)


def _write(imported: Imported, output: Path, *, as_json: bool) -> None:
    from elmo_deploy.cli._terminal import console as terminal
    from elmo_deploy.cli.inspect import count_parameters

    checkpoint = imported.checkpoint
    checkpoint.write(output)
    console = terminal.stderr()
    parameters = count_parameters(checkpoint.config)
    if any(mix.layer_norm for mix in checkpoint.mixes):
        console.print(LAYER_NORM)
    if "softmax.weight" in checkpoint.tensors and checkpoint.vocabulary is None:
        console.print("note: the softmax has no vocabulary; pass it by --vocab to evaluate")
    if as_json:
        names = [mix.name for mix in checkpoint.mixes]
        result = {"checkpoint": str(output), "format": imported.format, "mixes": names}
        terminal.print_json(result | {"parameters": parameters})
        return
    console.print(f"found {imported.format}")
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
