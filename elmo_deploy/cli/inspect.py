"""`elmo-deploy inspect`: print the contents of a bundle or a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elmo_deploy.cli._options.bundles import bundle_path

if TYPE_CHECKING:
    from elmo_runtime.bundle.manifest import Bundle
    from elmo_runtime.config import ElmoConfig
    from elmo_runtime.mixes import NamedMix


def inspect(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH",
            help="A bundle or a checkpoint directory, or english-small: the small model that comes"
            " with elmo-deploy.",
            callback=bundle_path,
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print the contents as JSON.")] = False,
) -> None:
    """Print the contents of a bundle or a checkpoint, and check every digest of a bundle."""
    from elmo_deploy.cli._terminal import console as terminal
    from elmo_deploy.cli._terminal import progress as reporting

    description = describe(path)
    if as_json:
        terminal.print_json(description)
        return
    console = terminal.stdout()
    size = terminal.size(description["bytes"])
    console.print(f"{description['kind']} {path}  {size}", style="bold")
    console.print(f"{description['parameters']:,} parameters")
    for title in ("model", "notes", "provenance"):
        if rows := list(description.get(title, {}).items()):
            console.print(terminal.table(title, ["what", "value"], rows))
    for title in ("mixes", "graphs", "engines", "files"):
        if rows := description.get(title, []):
            cells = [list(row.values()) for row in rows]
            console.print(terminal.table(title, list(rows[0]), cells))
    if rows := description.get("parity", []):
        console.print(reporting.table(rows))


def describe(path: Path) -> dict[str, Any]:
    """The output of `inspect`, in types that JSON supports."""
    from elmo_runtime.bundle.manifest import MANIFEST
    from elmo_runtime.errors import ArtifactError

    if not path.exists():
        raise ArtifactError(
            f"{path} does not exist", hint="name the directory of a bundle or a checkpoint"
        )
    if (path / MANIFEST).exists():
        return _describe_bundle(path)
    return _describe_checkpoint(path)


def _describe_bundle(path: Path) -> dict[str, Any]:
    from dataclasses import asdict

    from elmo_runtime.bundle.manifest import Bundle

    bundle = Bundle.open(path)
    files = {name: asdict(entry) for name, entry in bundle.files.items()}
    return {
        "kind": "bundle",
        "bytes": sum(entry["bytes"] for entry in files.values()),
        "parameters": count_parameters(bundle.config),
        "model": _model(bundle.config),
        "mixes": _mixes(bundle.mixes),
        "precisions": list(bundle.precisions),
        "graphs": [
            {
                "part": graph.part,
                "form": graph.form,
                "precision": graph.precision,
                "opset": graph.opset,
                "file": graph.file,
                "bytes": files[graph.file]["bytes"],
            }
            for graph in bundle.manifest.graphs
        ],
        "engines": _engines(bundle),
        "files": [{"file": name, **entry} for name, entry in files.items()],
        "parity": [dict(row) for row in bundle.manifest.parity],
        "notes": dict(bundle.manifest.notes or {}),
        "provenance": dict(bundle.manifest.provenance),
    }


def _describe_checkpoint(path: Path) -> dict[str, Any]:
    from elmo_export.checkpoint import SOFTMAX, Checkpoint

    checkpoint = Checkpoint.read(path)
    extra = sum(checkpoint.tensors[name].size for name in SOFTMAX if name in checkpoint.tensors)
    return {
        "kind": "checkpoint",
        "bytes": sum(file.stat().st_size for file in path.iterdir() if file.is_file()),
        "parameters": count_parameters(checkpoint.config),
        "model": _model(checkpoint.config),
        "mixes": _mixes(checkpoint.mixes),
        "softmax_parameters": extra,
        "vocabulary": len(checkpoint.vocabulary or ()),
        "provenance": dict(checkpoint.provenance),
    }


def count_parameters(config: ElmoConfig) -> int:
    """Number of weights of the biLM and its character CNN, without the softmax of training."""
    from math import prod

    from elmo_export.shapes import expected_shapes

    return sum(prod(shape) for shape in expected_shapes(config).values())


def _model(config: ElmoConfig) -> dict[str, Any]:
    options = config.to_options()
    embedding = options["char_cnn"].pop("embedding")
    return {**options["lstm"], **options["char_cnn"], "char_embedding_dim": embedding["dim"]}


def _mixes(mixes: Sequence[NamedMix]) -> list[dict[str, Any]]:
    return [
        {
            "mix": mix.name,
            "default": number == 0,
            "weights": list(mix.weights),
            "gamma": mix.gamma,
            "layer_norm": mix.layer_norm,
        }
        for number, mix in enumerate(mixes)
    ]


def _engines(bundle: Bundle) -> list[dict[str, Any]]:
    from elmo_runtime.bundle.engines import engine_folders, read_engine

    rows = []
    for folder in engine_folders(bundle):
        engine, digest = read_engine(folder)
        rows.append(
            {
                "engine": folder.name,
                "precision": engine.precision,
                "plans": len(engine.plans),
                "bytes": sum(plan.bytes for plan in engine.plans),
                "digest": digest,
            }
        )
    return rows
