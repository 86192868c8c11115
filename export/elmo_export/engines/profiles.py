"""The sizes that an engine is compiled for: buckets with a token budget, or chosen ranges."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from elmo_runtime.bundle.engines import Sizes
from elmo_runtime.bundle.manifest import Graph
from elmo_runtime.config import ElmoConfig
from elmo_runtime.errors import InputError
from elmo_runtime.inference.long_sentences import SMALLEST

Range = tuple[int, int, int]  # smallest, typical, largest

# Padded lengths with boundary tokens. Multiples of 8, because the compiler unrolls 8 steps.
BUCKETS = (8, 16, 24, 32, 48, 64, 96, 128)
LONGEST = 2048  # of the plan for all lengths; the embedder divides longer sentences into segments
TOKEN_BUDGET = 8192  # positions per batch: 256 sentences of 32
LARGEST_BATCH = 256
TYPICAL_BATCH = 8
SHORTEST = 3  # one token between the boundary tokens

# More mixes are computed in several passes: each mix adds activations at every position.
MIXES: Range = (1, 1, 4)
# Rows of word_vectors; only rows that word_index names are read.
WORDS: Range = (1, 65_536, 1 << 20)
# Always 64: the vector of a word must not depend on the number of words that are encoded with it.
# For another number of rows the library may choose a kernel that sums in another order.
ENCODED_WORDS: Range = (64, 64, 64)


def default_profiles(token_budget: int = TOKEN_BUDGET) -> tuple[Sizes, ...]:
    """One exact plan per bucket with a free batch within the budget, and one for all lengths."""
    lengths: list[Range] = [(length, length, length) for length in BUCKETS]
    lengths.append((SHORTEST, 32, LONGEST))
    return tuple(_bilm_sizes(_budgeted(length, token_budget), length) for length in lengths)


def chosen_profiles(
    batches: Sequence[Range], lengths: Sequence[Range], *, token_budget: int = TOKEN_BUDGET
) -> tuple[Sizes, ...]:
    """The biLM plans for ranges of `--batch` and `--length`, either of which may be empty.

    One batch range serves all lengths; otherwise there is one per length. Raises InputError.
    """
    _check_order("length", lengths, smallest=SHORTEST)  # first: batches follow from lengths
    if not lengths:
        lengths = [sizes["marked_length"] for sizes in default_profiles()] if batches else []
    if not lengths:
        return default_profiles(token_budget)
    if not batches:
        batches = [_budgeted(length, token_budget) for length in lengths]
    elif len(batches) == 1:
        batches = list(batches) * len(lengths)
    if len(batches) != len(lengths):
        raise InputError(
            f"{len(batches)} batch ranges for {len(lengths)} lengths",
            hint="give --batch once, or once per --length",
        )
    _check_order("batch", batches, smallest=1)
    for (_, _, sentences), (_, _, positions) in zip(batches, lengths, strict=True):
        if sentences * positions > WORDS[2] // 2:  # each position may hold another word
            raise InputError(
                f"a batch of {sentences} times {positions} positions exceeds {WORDS[2] // 2}",
                hint="use a smaller --batch or --length; the embedder divides larger batches",
            )
    if max(high for _, _, high in lengths) < SMALLEST:
        raise InputError(
            f"no plan holds the {SMALLEST} positions of a segment of a long sentence",
            hint=f"add --length {SMALLEST}",
        )
    return tuple(map(_bilm_sizes, batches, lengths))


def encoder_sizes(config: ElmoConfig) -> Sizes:
    """The sizes of the token encoder; the runtime pads shorter words."""
    width = config.max_characters_per_token
    return {"words": ENCODED_WORDS, "characters": (width, width, width)}


def parse_range(text: str) -> Range:
    """MIN:OPT:MAX, or one number for all three. Raises InputError."""
    parts = text.split(":")
    try:
        numbers = [int(part) for part in parts]
    except ValueError:
        numbers = []
    if len(numbers) == 1:
        numbers *= 3
    if len(numbers) != 3:
        raise InputError(f"{text!r} is not a range", hint="write MIN:OPT:MAX, for example 1:8:64")
    return numbers[0], numbers[1], numbers[2]


def input_shapes(graph: Graph, sizes: Sizes) -> dict[str, tuple[tuple[int, ...], ...]]:
    """The smallest, typical and largest shape of every input of a graph."""
    return {
        tensor.name: tuple(
            tuple(axis if isinstance(axis, int) else sizes[axis][which] for axis in tensor.axes)
            for which in range(3)
        )
        for tensor in graph.inputs
    }


def _bilm_sizes(batch: Range, length: Range) -> Sizes:
    return {"batch": batch, "marked_length": length, "words": WORDS, "mixes": MIXES}


def _budgeted(length: Range, token_budget: int) -> Range:
    largest = max(1, min(LARGEST_BATCH, token_budget // length[2]))
    return 1, min(TYPICAL_BATCH, largest), largest


def _check_order(what: str, ranges: Iterable[Range], *, smallest: int) -> None:
    for low, typical, high in ranges:
        if not smallest <= low <= typical <= high:
            raise InputError(
                f"{what} {low}:{typical}:{high} is not a range of at least {smallest}",
                hint="write MIN:OPT:MAX with MIN <= OPT <= MAX"
                + ("; lengths include both boundary tokens" if what == "length" else ""),
            )
