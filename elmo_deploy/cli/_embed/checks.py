"""Options of `embed` that have no effect on the chosen output are rejected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from elmo_runtime.errors import InputError

USE_DIRECTORY = "write a Parquet directory: -o vectors/"


def check_file_options(
    out: Path, *, outputs: Sequence[str], divided: bool, rows: int | None, state: str
) -> None:
    """Raise InputError for options that one file cannot have."""
    if divided:
        raise InputError(
            f"{out} is one file, which cannot be resumed or divided into shards",
            hint=USE_DIRECTORY,
        )
    if rows is not None and state != "carry":
        raise InputError(
            f"--rows {rows} has no effect with --state {state}",
            hint="add --state carry, or omit --rows",
        )
    if len(outputs) > 1:
        raise InputError(
            f"{out} is one file and takes one output, but --outputs names {', '.join(outputs)}",
            hint=USE_DIRECTORY,
        )


def check_directory_options(out: Path, options: Mapping[str, object]) -> None:
    """Raise InputError for options of files; `options` maps their names to values."""
    for option in (option for option, value in options.items() if value):
        raise InputError(
            f"{option} has no effect on {out}, a Parquet directory",
            hint="write a file: -o vectors.hdf5",
        )
