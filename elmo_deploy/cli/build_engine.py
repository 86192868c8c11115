"""`elmo-deploy build-engine`: compile a bundle for a GPU, by TensorRT or TensorRT-RTX."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from elmo_export.engines.build import EngineReport


class Flavour(enum.StrEnum):
    """The libraries that can compile."""

    AUTO = "auto"
    TENSORRT = "tensorrt"
    TENSORRT_RTX = "tensorrt-rtx"


class Precision(enum.StrEnum):
    """The precisions that engines can have."""

    AUTO = "auto"
    FP16 = "fp16"
    FP32 = "fp32"


def build_engine(
    bundle: Annotated[Path, typer.Argument(help="The bundle directory.")],
    flavour: Annotated[Flavour, typer.Option(help="The compiler to use.")] = Flavour.AUTO,
    precision: Annotated[
        Precision,
        typer.Option(help="Precision to compile; auto is fp16 if the bundle holds it, else fp32."),
    ] = Precision.AUTO,
    batch: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MIN:OPT:MAX",
            help="Sentences per batch. Give it once, or once per --length.",
            show_default="up to 8192 padded tokens per batch",
        ),
    ] = None,
    length: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MIN:OPT:MAX",
            help="Padded tokens per sentence, both boundary tokens included; one number for an"
            " exact length. May be repeated.",
            show_default="buckets from 8 to 128, and one plan up to 2048",
        ),
    ] = None,
    compute_capability: Annotated[
        str | None,
        typer.Option(
            metavar="N.N", help="Compute capability of the target GPU.", show_default="this GPU's"
        ),
    ] = None,
    workspace: Annotated[
        int | None, typer.Option(metavar="MIB", min=1, help="Maximum scratch memory per kernel.")
    ] = None,
    opt_level: Annotated[
        int | None,
        typer.Option(min=0, max=5, help="Optimization level: higher builds longer, runs faster."),
    ] = None,
    timing_cache: Annotated[
        Path | None, typer.Option(help="Keep kernel timings in this file (TensorRT).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Add an engine to a bundle. Does nothing if an identical engine exists."""
    from elmo_deploy.cli._terminal import console as terminal
    from elmo_deploy.cli._terminal import progress as parity
    from elmo_export.engines.build import build_engine as build
    from elmo_export.engines.profiles import parse_range

    with parity.progress() as on_progress:
        report = build(
            bundle,
            flavour=flavour.value,
            precision=precision.value,
            batch=[parse_range(text) for text in batch or []],
            length=[parse_range(text) for text in length or []],
            compute_capability=compute_capability,
            workspace=workspace << 20 if workspace else None,
            opt_level=opt_level,
            timing_cache=timing_cache,
            on_progress=on_progress,
        )
    if as_json:
        terminal.print_json(_as_json(report))
    else:
        _print(report)


def _print(report: EngineReport) -> None:
    from elmo_deploy.cli._terminal import console as terminal
    from elmo_export.engines.build import plan_rows

    rows = [{key: _readable(key, value) for key, value in row.items()} for row in plan_rows(report)]
    columns = [key.removesuffix("_bytes").replace("_", " ") for key in rows[0]]
    console = terminal.stdout()
    console.print(terminal.table("plans", columns, [list(row.values()) for row in rows]))
    done = "built" if report.built else "nothing to do, it was built before:"
    console.print(f"{done} {report.folder}")
    console.print(f"digest {report.digest}")
    if report.engine.precision == "fp32":
        console.print("fp32: for a faster engine, export with --precision fp32 --precision fp16")
    console.print(
        "note: the engine was built but not executed; run `elmo-deploy verify` on the target GPU"
    )


def _as_json(report: EngineReport) -> dict[str, Any]:
    from elmo_export.engines.build import plan_rows

    return {
        "engine": str(report.folder),
        "digest": report.digest,
        "built": report.built,
        "plans": list(plan_rows(report)),
    }


def _readable(key: str, value: object) -> str:
    from elmo_deploy.cli._terminal import console as terminal

    if value is None:
        return ""
    if isinstance(value, int | float) and key.endswith("_bytes"):
        return terminal.size(value)
    return f"{value:g}" if isinstance(value, float) else str(value)
