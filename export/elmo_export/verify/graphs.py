"""The parity check of all graphs of a bundle, on ONNX Runtime CPU and on the native backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from elmo_export.verify.native import verify_native, why_unusable, without_failed
from elmo_export.verify.parity import TOLERANCES, ParityRow, References, as_text, compare
from elmo_export.verify.sessions import GraphRunner, ReadFile
from elmo_runtime.bundle.manifest import Graph, Manifest
from elmo_runtime.errors import VerificationError

Progress = Callable[[str, float], None]  # the current work, and the finished share 0..1


def verify_graphs(
    read: ReadFile, manifest: Manifest, references: References, report: Progress
) -> list[ParityRow]:
    """Compare every graph with the reference, given the mixes of the manifest.

    Raises VerificationError with the table if an output exceeds its tolerance.
    """
    rows: list[ParityRow] = []
    groups = list(_runnable(manifest.graphs))
    for number, group in enumerate(groups):
        last = group[-1]
        report(f"verify {last.part} {last.form} {last.precision}", 0.5 + 0.5 * number / len(groups))
        rows += compare(
            GraphRunner(read, group),
            references,
            precision=last.precision,
            graph=last.form if last.part == "bilm" else last.part,
            tolerance=TOLERANCES[last.precision],
        )
    report("verified", 1.0)
    return passed(rows)


def try_native(
    read: ReadFile, manifest: Manifest, references: References, forms: Sequence[str]
) -> tuple[list[ParityRow], dict[str, str]]:
    """The rows of the native backend, and the reason for each form that the bundle leaves out.

    fp32 must pass, and so must bf16, which has no graph. int8 may fail: then the bundle offers
    its graph only. Raises VerificationError with the table.
    """
    if not forms:
        return [], {}
    if reason := why_unusable():
        return [], {"native": f"not verified: {reason}"}
    rows = verify_native(read, manifest, references, forms)
    kept = list(without_failed(rows, ["int8"]))
    if len(kept) < len(rows):
        return passed(kept), {"native: int8": "not verified: it turns vectors too far"}
    return passed(kept), {}


def passed(rows: list[ParityRow]) -> list[ParityRow]:
    """The rows. Raises VerificationError with the table if one exceeds its tolerance."""
    if failed := [row for row in rows if not row.passed]:
        raise VerificationError(
            f"{len(failed)} of {len(rows)} outputs are beyond tolerance\n{as_text(rows)}"
        )
    return rows


def _runnable(graphs: Sequence[Graph]) -> Iterator[tuple[Graph, ...]]:
    """Yield graphs that give all outputs: a biLM after its token encoder, or a joined one."""
    encoders = {graph.precision: graph for graph in graphs if graph.part == "token_encoder"}
    for graph in graphs:
        if graph.part == "bilm":
            yield encoders[graph.precision], graph
        elif graph.part == "joined":
            yield (graph,)
