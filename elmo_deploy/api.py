"""Export and verification with the reference model: the steps of the command line as functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from elmo_deploy.model.reference import reference
from elmo_export.checkpoint import Checkpoint
from elmo_export.export import export_bundle, verify_bundle
from elmo_export.verify.parity import ParityRow
from elmo_export.verify.recover import recover_checkpoint
from elmo_runtime.bundle.manifest import Bundle


def export(
    checkpoint: Checkpoint | str | Path,
    bundle: str | Path,
    *,
    precisions: str | Sequence[str] = "fp32",
    joined: bool = False,
    warm_sentences: Sequence[Sequence[str]] | None = None,
    on_progress: Callable[[str, float], None] | None = None,
) -> Bundle:
    """Export a checkpoint to a bundle, after the comparison of every output with the reference.

    The bundle is written atomically: a failed export leaves the previous one unchanged.

    Args:
        checkpoint: The model, or its checkpoint directory.
        bundle: The directory to write. A bundle there is replaced; engines that still fit stay.
        precisions: One or several of fp32, fp16, bf16 and int8.
        joined: Add one self-contained graph from character ids to vectors per precision.
        warm_sentences: Tokenized sentences; the mean of their last states becomes the warm state.
            By default, built-in sentences are used.
        on_progress: A function of the current work and the finished share, 0 to 1.

    Returns:
        The opened bundle; `bundle.manifest.parity` is the parity table.

    Raises:
        VerificationError: An output exceeds its tolerance; the message holds the parity table.
        InputError: A precision does not exist, or the directory holds files that would be lost.
        ArtifactError: The checkpoint cannot be read, or the disk is full.
        BackendUnavailableError: ONNX Runtime is not installed.

    Examples:
        >>> from elmo_deploy import Checkpoint, export
        >>> export(Checkpoint.read("checkpoint"), "bundle", precisions=["fp32", "fp16"])
        ... # doctest: +SKIP
        Bundle('bundle', fp32, fp16)
    """
    model = checkpoint if isinstance(checkpoint, Checkpoint) else Checkpoint.read(Path(checkpoint))
    return export_bundle(
        model,
        bundle,
        reference=reference(model),
        precisions=[precisions] if isinstance(precisions, str) else precisions,
        joined=joined,
        warm_sentences=warm_sentences,
        on_progress=on_progress,
    )


def verify(
    bundle: str | Path,
    *,
    checkpoint: Checkpoint | str | Path | None = None,
    on_progress: Callable[[str, float], None] | None = None,
) -> tuple[ParityRow, ...]:
    """Check every digest of a bundle, then compare every output of every graph with the reference.

    Args:
        bundle: The directory of the bundle.
        checkpoint: The model to compare with, or its checkpoint directory. By default, the
            weights in the fp32 graphs of the bundle are used.
        on_progress: A function of the current work and the finished share, 0 to 1.

    Returns:
        The parity table: one row per output and graph.

    Raises:
        VerificationError: An output exceeds its tolerance; the message holds the parity table.
        ArtifactError: The bundle or the checkpoint is missing, corrupt or of another version.
        BackendUnavailableError: ONNX Runtime is not installed.
    """
    if checkpoint is None:
        checkpoint = recover_checkpoint(Bundle.open(Path(bundle)))
    elif not isinstance(checkpoint, Checkpoint):
        checkpoint = Checkpoint.read(Path(checkpoint))
    return verify_bundle(bundle, reference=reference(checkpoint), on_progress=on_progress)
