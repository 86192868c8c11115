"""D1 and D3 for the native backend, in every form and on every instruction set of the processor."""

from __future__ import annotations

import random

import pytest

from elmo_deploy.model.reference import reference
from elmo_export.export import export_bundle
from elmo_runtime.embedder import Embedder
from guarantee_kit.invariance import differing, digests, sentences_of
from native_models import FORMS, needs_library, usable_sets

pytestmark = needs_library


@pytest.fixture(scope="module")
def native_bundle(tiny_checkpoint, tmp_path_factory):
    """The random ELMo of the other guarantees, verified in every form of the native backend."""
    path = tmp_path_factory.mktemp("native") / "bundle"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("elmo_export.verify.cases.SHAPES", [(1, 2), (5, 7)])
        export_bundle(tiny_checkpoint, path, reference=reference(tiny_checkpoint), precisions=FORMS)
    return path


@pytest.mark.parametrize("form", FORMS)
def test_d1_batch_order_padding_and_history_change_no_bit(native_bundle, form, seed, cases, kept):
    count = cases(1_000, 20_000)
    options = {"backend": "native", "precision": form}
    with (
        Embedder.load(native_bundle, **options) as alone,
        Embedder.load(native_bundle, token_budget=100, cache_words=200, **options) as batched,
    ):
        assert differing(alone, batched, count, seed) == 0
    kept("D1", f"native {form}: {count:,} sentences, 0 differing bits")


@pytest.mark.parametrize("form", FORMS)
def test_d3_processes_threads_and_instruction_sets_change_no_bit(native_bundle, form, seed, kept):
    sentences = sentences_of(random.Random(seed), 100)
    found = set()
    for name in usable_sets():
        options = {"backend": "native", "precision": form, "instruction_set": name}
        found |= digests(native_bundle, sentences, (1, 2), **options)
    assert len(found) == 1
    kept("D3", f"native {form}: 100 sentences, {len(usable_sets())} instruction sets, 1 digest")
