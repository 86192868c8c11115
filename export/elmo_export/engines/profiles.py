"""Which sizes an engine is compiled for: length buckets with a token budget, or chosen ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from elmo_runtime.bundle.engines import Sizes
from elmo_runtime.bundle.manifest import Graph
from elmo_runtime.config import ElmoConfig
from elmo_runtime.errors import InputError
from elmo_runtime.inference.long_sentences import SMALLEST

Range = tuple[int, int, int]  # smallest, typical, largest

# Padded lengths, sentence marks counted. Multiples of 8, because the compiler unrolls 8 steps.
BUCKETS = (8, 16, 24, 32, 48, 64, 96, 128)
LONGEST = 2048  # of the plan that takes any length; the embedder cuts longer sentences up
TOKEN_BUDGET = 8192  # padded tokens of one batch: 256 sentences of 32
LARGEST_BATCH = 256
TYPICAL_BATCH = 8
SHORTEST = 3  # one token between the sentence marks

# More mixes are computed in several passes: each one adds activations to every padded token.
MIXES: Range = (1, 1, 4)
# Rows of the table that word_index points into; only rows that it names are read.
WORDS: Range = (1, 65_536, 1 << 20)
# Always 64: a word's vector must not depend on how many words are encoded beside it, and the
# library may choose another kernel, which sums in another order, for another number of rows.
ENCODED_WORDS: Range = (64, 64, 64)


def default_profiles(token_budget: int = TOKEN_BUDGET) -> tuple[Sizes, ...]:
    """An exact plan a bucket, the batch free within the budget, and one plan for any length."""
    lengths: list[Range] = [(length, length, length) for length in BUCKETS]
    lengths.append((SHORTEST, 32, LONGEST))
    return tuple(_bilm_sizes(_budgeted(length, token_budget), length) for length in lengths)


def chosen_profiles(
    batches: Sequence[Range], lengths: Sequence[Range], *, token_budget: int = TOKEN_BUDGET
) -> tuple[Sizes, ...]:
    """The biLM plans for ranges of `--batch` and `--length`, either of which may be empty.

    One batch range serves every length, else there must be one a length. Raises InputError.
    """
    _refuse_disorder("length", lengths, smallest=SHORTEST)  # first: batches follow from lengths
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
            hint="give --batch once, or once a --length",
        )
    _refuse_disorder("batch", batches, smallest=1)
    for (_, _, sentences), (_, _, places) in zip(batches, lengths, strict=True):
        if sentences * places > WORDS[2] // 2:  # each place may hold another word
            raise InputError(
                f"a batch of {sentences} times {places} places is beyond {WORDS[2] // 2}",
                hint="make --batch or --length smaller; the embedder cuts larger batches up",
            )
    if max(high for _, _, high in lengths) < SMALLEST:
        raise InputError(
            f"no plan holds the {SMALLEST} places of a window that long sentences are cut into",
            hint=f"add --length {SMALLEST}",
        )
    return tuple(map(_bilm_sizes, batches, lengths))


def encoder_sizes(config: ElmoConfig) -> Sizes:
    """The sizes of the token encoder; shorter words are padded by the runtime."""
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
        raise InputError(f"{text!r} is no range", hint="write MIN:OPT:MAX, for example 1:8:64")
    return numbers[0], numbers[1], numbers[2]


def input_shapes(graph: Graph, sizes: Sizes) -> dict[str, tuple[tuple[int, ...], ...]]:
    """The smallest, typical and largest shape of every input of a graph with free axes."""
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


def _refuse_disorder(what: str, ranges: Iterable[Range], *, smallest: int) -> None:
    for low, typical, high in ranges:
        if not smallest <= low <= typical <= high:
            raise InputError(
                f"{what} {low}:{typical}:{high} is no range of at least {smallest}",
                hint="write MIN:OPT:MAX with MIN <= OPT <= MAX"
                + ("; lengths count both sentence marks" if what == "length" else ""),
            )
