"""The cases of the parity check: ragged batches with states and mixes, from a fixed seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elmo_runtime import characters
from elmo_runtime.config import ElmoConfig
from elmo_runtime.mixes import Mixes, NamedMix, uses_layer_norm

Array = NDArray[Any]

SHAPES = [(batch, length) for batch in (1, 2, 5, 32) for length in (1, 2, 7, 50)] + [(3, 13)]
LETTERS = "etaoinshrdlucmfwypvbgkjqxz'-.0189éßøжяאمक日本語😀"
N_TEXT = 12  # sentences of the case in English
MOST_WORK = 10**11  # multiplications with weights
SEED = 20180215  # the date of the paper
MIX_INPUTS = ("mix_weights", "gamma", "layer_norm")


@dataclass(frozen=True)
class Case:
    """Inputs of the `joined` graph by name.

    trained_mixes: the mixes in the inputs are those that the bundle stores. The reference uses its
    own mixes instead, so that a mix which was lost or changed fails the check.
    """

    name: str
    inputs: Mapping[str, Array]
    trained_mixes: bool = False

    @property
    def reference_inputs(self) -> dict[str, Array]:
        """The inputs for the reference."""
        hidden = MIX_INPUTS if self.trained_mixes else ()
        return {name: value for name, value in self.inputs.items() if name not in hidden}


def too_large(config: ElmoConfig, batch: int, length: int) -> bool:
    """Whether a case would take a minute: at the original size, 32 sentences of 50 tokens."""
    a_step = config.n_layers * config.lstm_dim * config.projection_dim * 9  # weights per direction
    return 2 * a_step * batch * (length + 2) > MOST_WORK


def omitted_shapes(config: ElmoConfig) -> list[str]:
    """The names of the cases that `parity_cases` leaves out for their size."""
    return [f"{batch}x{length}" for batch, length in SHAPES if too_large(config, batch, length)]


def parity_cases(config: ElmoConfig, stored: Sequence[NamedMix] = ()) -> Iterator[Case]:
    """Every shape of SHAPES that is not `too_large`, one sentence without tokens, and English.

    The first sentence fills the length, the second has no tokens, the others are ragged. The mixes
    that a bundle stores are tried on English and on the last of the shapes.
    """
    drawn = list(_drawn_cases(config, uses_layer_norm(stored)))
    yield from drawn
    if stored:
        yield _with_trained_mixes(drawn[-2], config, stored)
        yield _with_trained_mixes(text_case(config), config, stored)
    yield text_case(config, stored)


def _with_trained_mixes(case: Case, config: ElmoConfig, stored: Sequence[NamedMix]) -> Case:
    mixes = Mixes.stacked(config, stored, with_layer_norm=uses_layer_norm(stored))
    inputs = {**case.inputs, **mixes.graph_inputs()}
    return Case(f"{case.name}, trained mixes", inputs, trained_mixes=True)


def _drawn_cases(config: ElmoConfig, layer_norm: bool) -> Iterator[Case]:
    generator = np.random.default_rng(SEED)
    for number, (batch, length) in enumerate(SHAPES):
        if too_large(config, batch, length):
            continue
        lengths = generator.integers(0, length + 1, batch)
        lengths[:2] = (length, 0)[:batch]
        case = _case(config, generator, f"{batch}x{length}", lengths, length, 1 + number % 3)
        yield _with_layer_norm(case) if layer_norm else case
    case = _case(config, generator, "1x3 of no tokens", np.zeros(1, np.int64), 3, 1)
    yield _with_layer_norm(case) if layer_norm else case


def text_case(config: ElmoConfig, stored: Sequence[NamedMix] = ()) -> Case:
    """Built-in English sentences from zero states, which a trained model is made for."""
    case = Case("English", sentence_inputs(config, own_sentences()[:N_TEXT]))
    return _with_layer_norm(case) if uses_layer_norm(stored) else case


def own_sentences() -> list[list[str]]:
    """English sentences that were written for this package, as tokens."""
    text = files("elmo_export").joinpath("sentences.txt").read_text("utf-8")
    return [line.split() for line in text.splitlines()]


def batch_changes(case: Case) -> Iterator[tuple[Case, NDArray[np.intp]]]:
    """The same sentences in other batches, and the number of each in `case`.

    The first batch is in reverse order with six more columns of padding. The others hold one
    sentence each, without padding.
    """
    lengths = case.inputs["lengths"]
    backwards = np.arange(len(lengths))[::-1]
    yield _select(case, backwards, int(case.inputs["char_ids"].shape[1]) + 6), backwards
    for number, length in enumerate(lengths):
        one = np.array([number])
        yield _select(case, one, max(int(length), 1)), one


def perturbed(case: Case, size: float) -> Case:
    """The case with normal noise of the given `size` added to its initial states."""
    generator = np.random.default_rng(SEED)
    moved = {
        name: (value + size * generator.standard_normal(value.shape)).astype(np.float32)
        for name, value in case.inputs.items()
        if name.startswith("initial")
    }
    return replace(case, inputs={**case.inputs, **moved})


def sentence_inputs(config: ElmoConfig, sentences: Sequence[Sequence[str]]) -> dict[str, Array]:
    """Tokens -> inputs of the `joined` graph: zero states, one mix of equal weights, gamma 1."""
    lengths = np.array([len(sentence) for sentence in sentences], np.int32)
    width = config.max_characters_per_token
    char_ids = np.zeros((len(sentences), max(int(lengths.max()), 1), width), np.int32)
    for row, sentence in zip(char_ids, sentences, strict=True):
        row[: len(sentence)] = characters.char_ids(sentence, max_characters=width)
    states = (config.n_layers, 2, len(sentences))
    return {
        "char_ids": char_ids,
        "lengths": lengths,
        "mix_weights": np.zeros((1, config.n_layers + 1), np.float32),
        "gamma": np.ones(1, np.float32),
        "initial_h": np.zeros((*states, config.projection_dim), np.float32),
        "initial_c": np.zeros((*states, config.lstm_dim), np.float32),
    }


def trial_words(config: ElmoConfig, *, count: int = 512) -> Array:
    """Character ids (words, max characters): for each byte the longest word of it, and words."""
    generator = np.random.default_rng(SEED)
    width = config.max_characters_per_token
    extremes = np.full((256, width), characters.END_WORD + 1, np.int32)
    extremes[:, 0] = characters.BEGIN_WORD + 1
    extremes[:, 1:-1] = np.arange(1, 257)[:, None]
    words = [_word(generator) for _ in range(count)]
    return np.concatenate([extremes, characters.char_ids(words, max_characters=width)])


def _case(
    config: ElmoConfig,
    generator: np.random.Generator,
    name: str,
    lengths: NDArray[np.int64],
    width: int,
    mixes: int,
) -> Case:
    sentences = [[_word(generator) for _ in range(length)] for length in lengths]
    inputs = sentence_inputs(config, sentences)
    padding = ((0, 0), (0, width - inputs["char_ids"].shape[1]), (0, 0))
    inputs["char_ids"] = np.pad(inputs["char_ids"], padding)
    for state, clip in (("initial_h", config.proj_clip), ("initial_c", config.cell_clip)):
        drawn = generator.normal(0, 0.5, inputs[state].shape).clip(-(clip or 9), clip or 9)
        inputs[state] = drawn.astype(np.float32)
    inputs["mix_weights"] = generator.normal(0, 1, (mixes, config.n_layers + 1)).astype(np.float32)
    inputs["gamma"] = generator.normal(1, 0.5, mixes).astype(np.float32)
    return Case(name, inputs)


def _with_layer_norm(case: Case) -> Case:
    """Every other mix of the case normalizes its layers, beginning with the first."""
    flags = (np.arange(len(case.inputs["gamma"])) % 2 == 0).astype(np.float32)
    return replace(case, inputs={**case.inputs, "layer_norm": flags})


def _word(generator: np.random.Generator) -> str:
    """A short word; one in twenty is longer than the maximum."""
    length = generator.integers(0, 12) if generator.random() < 0.95 else 60
    return "".join(LETTERS[n] for n in generator.integers(0, len(LETTERS), length))


def _select(case: Case, numbers: NDArray[np.intp], width: int) -> Case:
    batch_axis = {"char_ids": 0, "lengths": 0, "initial_h": 2, "initial_c": 2}
    inputs = {
        name: np.take(value, numbers, axis=batch_axis[name]) if name in batch_axis else value
        for name, value in case.inputs.items()
    }
    char_ids = inputs["char_ids"][:, :width]
    inputs["char_ids"] = np.pad(char_ids, ((0, 0), (0, width - char_ids.shape[1]), (0, 0)))
    return Case(case.name, inputs)
