"""TrainingOptions: the recipe, read from the same `options.json` as the shape of the model.

Names and defaults are those of bilm-tf; keys that bilm-tf does not know come last.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

from elmo_runtime.config import ElmoConfig
from elmo_runtime.errors import ConfigError

CHOICES = {
    "optimizer": ("adagrad", "adamw"),
    "decay": ("constant", "linear", "cosine", "inverse_sqrt"),
    "precision": ("fp32", "bf16", "fp16"),
}
DEFAULT_NEGATIVES = 8192  # the paper's
PEAK_RATES = {"adagrad": 0.2, "adamw": 0.001}


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """The recipe of https://arxiv.org/abs/1802.05365. None means no limit.

    Every default is the paper's except `zero_state_probability`, which is 0 there. States that are
    never reset can settle in a region that the zero state does not lead to. The trained model then
    predicts well from carried states and badly from the start of a text.
    """

    model: ElmoConfig
    batch_size: int = 128  # rows of a batch in each process
    unroll_steps: int = 20  # tokens of a window; no gradient crosses its edge
    n_epochs: int = 10
    n_train_tokens: int | None = None  # tokens of one epoch; None: counted
    n_tokens_vocab: int | None = None  # checked against the vocabulary; None: not checked
    n_negative_samples_batch: int | None = None  # None: 8192, or the full softmax if smaller
    sample_softmax: bool = True
    dropout: float = 0.1
    all_clip_norm_val: float | None = 10.0
    learning_rate: float | None = None  # None: 0.2 for Adagrad, 0.001 for AdamW
    initial_accumulator: float = 1.0  # Adagrad's sum of squares before the first step
    optimizer: str = "adagrad"
    weight_decay: float = 0.0  # AdamW only
    warmup_steps: int = 0  # steps of a linear warm-up from 0
    decay: str = "constant"  # of the learning rate after the warm-up
    precision: str = "fp32"  # of the matrix products; weights and cells stay in fp32
    accumulate_windows: int = 1  # windows whose gradients are averaged into one step
    zero_state_probability: float = 0.01  # per window and row, to restart from the zero state
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse values that are out of range."""
        for name, choices in CHOICES.items():
            self._require(name, getattr(self, name) in choices, f"one of {', '.join(choices)}")
        for name in ("batch_size", "unroll_steps"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        self._require("n_negative_samples_batch", self.n_negatives >= 1, "at least 1")
        self._require("n_epochs", self.n_epochs >= 1, "at least 1")
        self._require("accumulate_windows", self.accumulate_windows >= 1, "at least 1")
        self._require("warmup_steps", self.warmup_steps >= 0, "at least 0")
        self._require("seed", self.seed >= 0, "at least 0")
        self._require("dropout", 0 <= self.dropout < 1, "in [0, 1)")
        restarts = self.zero_state_probability
        self._require("zero_state_probability", 0 <= restarts <= 1, "in [0, 1]")
        self._require("learning_rate", self.peak_rate > 0, "above 0")
        self._require("initial_accumulator", self.initial_accumulator > 0, "above 0")
        self._require("weight_decay", self.weight_decay >= 0, "at least 0")
        clip = self.all_clip_norm_val
        self._require("all_clip_norm_val", clip is None or clip > 0, "above 0, or null")

    @property
    def peak_rate(self) -> float:
        """The learning rate between warm-up and decay."""
        if self.learning_rate is not None:
            return self.learning_rate
        return PEAK_RATES[self.optimizer]

    @property
    def n_negatives(self) -> int:
        """The negatives per direction and window if the softmax is sampled."""
        given = self.n_negative_samples_batch
        return DEFAULT_NEGATIVES if given is None else given

    def for_vocabulary(self, size: int) -> TrainingOptions:
        """The same recipe with the kind of softmax chosen for a vocabulary of `size` words.

        Options without a number of negatives get the default, or the full softmax if the vocabulary
        is too small for it; at that size the full softmax is exact and costs no more. Raises
        ConfigError if the options ask for at least as many negatives as there are words.
        """
        sampled = self.sample_softmax
        if self.n_negative_samples_batch is None and size <= DEFAULT_NEGATIVES:
            sampled = False
        if sampled:
            require_fewer_negatives(self.n_negatives, size)
        return replace(self, sample_softmax=sampled, n_negative_samples_batch=self.n_negatives)

    def _require(self, name: str, holds: bool, rule: str) -> None:
        if not holds:
            raise ConfigError(f"options: {name} is {getattr(self, name)!r}, must be {rule}")

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> TrainingOptions:
        """Read the content of an `options.json`; unknown keys are ignored.

        Raises ConfigError with the key that is missing, invalid or not supported.
        """
        if options.get("share_embedding_softmax"):
            raise ConfigError(
                "options: share_embedding_softmax is true, but characters have no word embedding",
                hint="leave it out; bilm-tf refuses it too",
            )
        if options.get("bidirectional", True) is not True:
            raise ConfigError("options: bidirectional is false; an ELMo reads both ways")
        hints = get_type_hints(cls)
        values = {
            field.name: _checked(field.name, options[field.name], hints[field.name])
            for field in fields(cls)
            if field.name in options and field.name != "model"
        }
        return cls(model=ElmoConfig.from_options(options), **values)

    @classmethod
    def read(cls, path: Path) -> TrainingOptions:
        """Read an `options.json`. Raises ConfigError."""
        try:
            options = json.loads(path.read_bytes())  # json detects a byte order mark in bytes
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path} cannot be read as JSON: {error}") from error
        if not isinstance(options, dict):
            raise ConfigError(f"{path} holds {type(options).__name__}, must be an object")
        return cls.from_options(options)

    def to_options(self) -> dict[str, Any]:
        """The options as a dict, which `from_options` reads."""
        recipe = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "model"}
        return {"bidirectional": True, **self.model.to_options(), **recipe}


def require_fewer_negatives(n: int, vocabulary_size: int) -> None:
    """Raise ConfigError unless the vocabulary has more words than the `n` negatives to draw."""
    if n >= vocabulary_size:
        raise ConfigError(
            f"n_negative_samples_batch is {n}, but the vocabulary has only {vocabulary_size} words",
            hint=f"draw fewer than {vocabulary_size} with --negatives N, or none with"
            " --negatives 0 (the full softmax)",
        )


def _checked(name: str, value: Any, kind: Any) -> Any:
    """Return `value` if it is of `kind` (an int is a valid float); else raise ConfigError."""
    kinds = get_args(kind) or (kind,)
    if type(value) in kinds:
        return value
    if float in kinds and type(value) is int:
        return float(value)
    names = " or ".join("null" if k is type(None) else k.__name__ for k in kinds)
    raise ConfigError(f"options: {name} is {value!r}, must be {names}")
