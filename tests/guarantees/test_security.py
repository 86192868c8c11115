"""X1: imported weights run no code.

X2 is in tests/runtime/backends/test_tensorrt_opening.py and tests/runtime/bundle/test_engines.py,
X3 in every test of tests/cli, X4 in tests/runtime/test_import.py.
"""

from __future__ import annotations

from guarantee_kit.children import HANG, run_child
from guarantee_kit.foreign import import_mutants, import_pickles

PICKLES = 6  # three files, each directly and in an archive


def test_x1_imported_weights_run_no_code(tmp_path, seed, cases, kept):
    count, canary = cases(300, 5_000), tmp_path / "canary"
    outcome = run_child(import_mutants, tmp_path / "mutants", seed, count, timeout=HANG + count)
    assert outcome.code == 0, outcome.error
    assert sum(outcome.answer.values()) == count
    pickles = run_child(import_pickles, tmp_path / "pickles", canary)
    assert (pickles.answer, pickles.error) == ([], "")
    assert not canary.exists()
    counts = ", ".join(f"{number} {what}" for what, number in outcome.answer.items())
    kept("X1", f"{count} HDF5 mutants ({counts}), {PICKLES} pickles rejected, no code run")


def test_x1_control_an_importer_that_unpickles(tmp_path, caught):
    canary = tmp_path / "canary"
    outcome = run_child(import_pickles, tmp_path / "pickles", canary, "unpickle")
    assert canary.exists()
    caught("X1", f"the payload ran; accepted: {outcome.answer}")
