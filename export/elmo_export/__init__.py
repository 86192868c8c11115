"""Checkpoint -> graphs -> engines -> bundle."""

from elmo_export.checkpoint import Checkpoint
from elmo_export.package import export_bundle, verify_bundle
from elmo_export.parity import ParityRow
from elmo_export.recover import recover_checkpoint

__all__ = ["Checkpoint", "ParityRow", "export_bundle", "recover_checkpoint", "verify_bundle"]
