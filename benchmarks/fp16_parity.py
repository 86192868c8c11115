"""Errors of FP16 graphs against the FP32 reference, one row per model, by the check of `export`.

    python benchmarks/fp16_parity.py --hdf5 FIXTURES/bilm-tf/model --hdf5 FIXTURES/allennlp
        --options OPTIONS.json -o benchmarks/results/fp16-parity.json

The shipped model and a random model whose clips bind are always included. The graphs run on the
CPU and round like a GPU (`elmo_export.verify.fp16_rounding`); no engine runs. The script prints a
Markdown table of the largest absolute error per output and the smallest cosine of any vector.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from elmo_deploy.benchmark.machine import describe_machine
from elmo_deploy.importers.bilm_hdf5 import import_hdf5
from elmo_deploy.model import Elmo
from elmo_deploy.model.reference import reference
from elmo_export import Checkpoint, export_bundle
from elmo_export.verify.cases import text_case
from elmo_export.verify.parity import BATCH_INVARIANCE, TOLERANCES
from elmo_runtime.config import ElmoConfig
from elmo_runtime.files.atomic import atomic_file

ROOT = Path(__file__).parents[1]
SHOWN = ("word_emb", "lstm_outputs1", "lstm_outputs2", "elmo", "default")
Row = Mapping[str, Any]


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    torch.manual_seed(0)
    found = {}
    for name, checkpoint in models(options):
        print(f"{name} ...", file=sys.stderr, flush=True)
        found[name] = compare(checkpoint)
    with atomic_file(options.output) as scratch:
        tolerance = vars(TOLERANCES["fp16"])
        report = {"machine": describe_machine(), "tolerance": tolerance, "models": found}
        scratch.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    print(table(found))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--hdf5", type=Path, action="append", default=[], help="directory of published weights"
    )
    parser.add_argument(
        "--options",
        type=Path,
        action="append",
        default=[],
        help="options.json of a size, for random weights",
    )
    parser.add_argument("-o", "--output", type=Path, required=True)
    return parser.parse_args(arguments)


def models(options: argparse.Namespace) -> Iterator[tuple[str, Checkpoint]]:
    """Yield the name of each row and its model."""
    for folder in options.hdf5:
        name = " ".join(
            part for part in folder.parts[-2:] if part not in ("model", "elmo-fixtures")
        )
        yield f"{name} fixture", import_hdf5(folder / "options.json", folder / "lm_weights.hdf5")
    yield "models/english-small, trained", Checkpoint.read(ROOT / "models" / "english-small")
    yield "random, clips bind", clips_that_bind()
    for file in options.options:
        config = ElmoConfig.from_options(json.loads(file.read_bytes()))
        size = f"{config.lstm_dim}/{config.projection_dim}"
        yield f"random, published size {size}", Elmo(config).to_checkpoint()


def clips_that_bind() -> Checkpoint:
    """Return the model of the tests in which both clips often bind."""
    sys.path.append(str(ROOT / "tests"))
    from random_models import clipped_checkpoint

    return clipped_checkpoint()


def compare(checkpoint: Checkpoint) -> dict[str, Any]:
    """Export in FP16 and return the parity table, and how often the clips bind in English text.

    Raises VerificationError, as `export` does, when an error exceeds its tolerance.
    """
    config, run = checkpoint.config, reference(checkpoint)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "bundle"
        bundle = export_bundle(checkpoint, folder, reference=run, precisions=("fp16",))
    final = run(**text_case(config).inputs)
    return {
        "lstm_dim": config.lstm_dim,
        "projection_dim": config.projection_dim,
        "share_of_final_cells_clipped": share_clipped(final["final_c"], config.cell_clip),
        "share_of_final_projections_clipped": share_clipped(final["final_h"], config.proj_clip),
        "notes": dict(bundle.manifest.notes),
        "parity": [dict(row) for row in bundle.manifest.parity],
    }


def share_clipped(values: np.ndarray, clip: float | None) -> float:
    return round(float((np.abs(values) >= (clip or np.inf)).mean()), 4)


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a Markdown table with one row per model."""
    head = ("model", *(f"`{name}`" for name in SHOWN), "smallest cosine")
    lines = [head, ["---"] * len(head)]
    for name, model in found.items():
        rows = {row["output"]: row for row in model["parity"] if row["output"] != BATCH_INVARIANCE}
        least = min(rows.values(), key=lambda row: row["min_cosine"])
        errors = [f"{rows[output]['max_abs_error']:.1e}" for output in SHOWN]
        lines.append([name, *errors, f"{least['min_cosine']:.7f}, `{least['output']}`"])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    main()
