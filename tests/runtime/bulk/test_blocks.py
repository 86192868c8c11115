"""Blocks depend only on the input."""

import pytest

from elmo_runtime.bulk import BadRecord, BlockLimits, Record
from elmo_runtime.bulk.blocks import blocks
from elmo_runtime.errors import InputError


def lines(*lengths):
    return [Record(str(i), ("w",) * n, f"f:{i}") for i, n in enumerate(lengths)]


def cut(records, **limits):
    return [[len(r.tokens) for r in b.records] for b in blocks(records, BlockLimits(**limits))]


def test_a_block_is_full_at_its_rows_or_before_its_tokens_are_exceeded():
    assert cut(lines(1, 1, 1, 1, 1), rows=2) == [[1, 1], [1, 1], [1]]
    assert cut(lines(3, 3, 4, 1), tokens=6) == [[3, 3], [4, 1]]


def test_a_sentence_over_the_limit_has_a_block_of_its_own():
    assert cut(lines(1, 9, 1), tokens=4) == [[1], [9], [1]]


def test_bad_lines_count_as_rows_so_that_a_block_is_bounded():
    bad = [BadRecord(f"f:{i}", "bad") for i in range(5)]
    found = list(blocks(bad, BlockLimits(rows=2)))
    assert [len(block.failures) for block in found] == [2, 2, 1]


def test_an_empty_input_is_one_empty_block():
    (block,) = blocks([], BlockLimits())
    assert (block.number, block.records, block.n_tokens) == (0, (), 0)


def test_the_digest_depends_on_tokens_ids_and_cuts():
    variants = [
        [Record("a", ("b", "c"), "")],
        [Record("a", ("b c",), "")],
        [Record("ab", ("c",), "")],
        [Record("a", ("b",), ""), Record("a", ("c",), "")],
        [BadRecord("a", "b")],
    ]
    digests = {next(blocks(variant, BlockLimits())).digest for variant in variants}
    assert len(digests) == len(variants)


@pytest.mark.parametrize("limits", [{"rows": 0}, {"tokens": 0}])
def test_an_empty_block_size_is_refused(limits):
    with pytest.raises(InputError, match="at least 1"):
        BlockLimits(**limits)
