"""`elmo-deploy build-engine`: compile a bundle for a GPU with TensorRT or TensorRT-RTX."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from elmo_export.engines.build import EngineReport


class Compiler(enum.StrEnum):
    """The libraries that build engines."""

    AUTO = "auto"
    TENSORRT = "tensorrt"
    TENSORRT_RTX = "tensorrt-rtx"


class Precision(enum.StrEnum):
    """The precisions of engines."""

    AUTO = "auto"
    FP16 = "fp16"
    FP32 = "fp32"


def build_engine(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle directory.")],
    compiler: Annotated[
        Compiler | None,
        typer.Option(
            help="The library that builds the engine.", show_default="the one that is installed"
        ),
    ] = None,
    precision: Annotated[
        Precision,
        typer.Option(
            help="Precision of the engine; auto is fp16 if the bundle has it, otherwise fp32."
        ),
    ] = Precision.AUTO,
    batch: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MIN:OPT:MAX",
            help="Sentences per batch; once for all lengths, or once per --length.",
            show_default="up to 8192 padded tokens per batch",
        ),
    ] = None,
    length: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MIN:OPT:MAX",
            help="Positions per sentence: tokens, boundary tokens and padding. One number is an"
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
        typer.Option(
            min=0,
            max=5,
            help="Optimization level: a higher level builds more slowly and may run faster.",
        ),
    ] = None,
    timing_cache: Annotated[
        Path | None,
        typer.Option(help="A file for kernel timings, which makes later builds faster (TensorRT)."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    flavour: Annotated[Compiler | None, typer.Option(hidden=True)] = None,
) -> None:
    """Compile an engine and add it to a bundle. An identical engine is not built again."""
    from elmo_deploy.cli._options.renamed import renamed
    from elmo_deploy.cli._terminal import console as terminal
    from elmo_deploy.cli._terminal import progress as reporting
    from elmo_export.engines.build import build_engine as build
    from elmo_export.engines.profiles import parse_range

    chosen = renamed("--flavour", flavour, "--compiler", compiler)
    with reporting.progress() as on_progress:
        report = build(
            bundle,
            compiler=(chosen or Compiler.AUTO).value,
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
    done = "built" if report.built else "nothing to do, the engine exists:"
    console.print(f"{done} {report.folder}")
    console.print(f"digest {report.digest}")
    if report.engine.precision == "fp32":
        console.print("note: for a faster engine, export with --precision fp32 --precision fp16")
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
