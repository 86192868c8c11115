"""ElmoConfig: the sizes that define an ELMo, read from and written to `options.json`.

It knows the option names of bilm-tf and AllenNLP; it is independent of weights and files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from elmo_runtime.errors import ConfigError

ACTIVATIONS = ("relu", "tanh")


@dataclass(frozen=True, kw_only=True)
class ElmoConfig:
    """The sizes of an ELMo, as in Peters et al. 2018 and the published `options.json` files.

    Attributes:
        projection_dim: P, the width of a token vector and of one LSTM direction.
        lstm_dim: C, the width of the LSTM cell.
        n_layers: The number of LSTM layers per direction.
        use_skip_connections: Whether each layer after the first adds its input to its output.
        char_embedding_dim: The width of a character embedding.
        filters: (width in characters, number of filters) of each convolution.
        n_highway: The number of highway layers.
        cell_clip: The largest absolute value of a cell; None is no clip.
        proj_clip: The largest absolute value of a projection; None is no clip.
        activation: The activation of the convolutions, "relu" or "tanh".
        max_characters_per_token: The size of a row of character ids.

    Raises:
        ConfigError: A size that no ELMo can have.
    """

    projection_dim: int
    lstm_dim: int
    n_layers: int
    use_skip_connections: bool
    char_embedding_dim: int
    filters: tuple[tuple[int, int], ...]
    n_highway: int
    cell_clip: float | None = None
    proj_clip: float | None = None
    activation: str = "relu"
    max_characters_per_token: int = 50

    def __post_init__(self) -> None:
        """Reject sizes that no ELMo can have."""
        for name in ("projection_dim", "lstm_dim", "n_layers", "char_embedding_dim"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}, must be at least 1")
        if self.n_highway < 0:
            raise ConfigError(f"n_highway is {self.n_highway}, must be at least 0")
        if self.activation not in ACTIVATIONS:
            raise ConfigError(
                f"activation is {self.activation!r}", hint=f"use one of {', '.join(ACTIVATIONS)}"
            )
        if self.max_characters_per_token < 4:
            raise ConfigError(
                f"max_characters_per_token is {self.max_characters_per_token}, must be at least 4"
            )
        if not self.filters:
            raise ConfigError("char_cnn.filters is empty, must hold [width, count] pairs")
        for width, count in self.filters:
            if not (1 <= width <= self.max_characters_per_token and count >= 1):
                raise ConfigError(
                    f"filter [{width}, {count}]: the width must be in"
                    f" 1..{self.max_characters_per_token} and the count at least 1"
                )

    @property
    def n_filters(self) -> int:
        """F, the width of the concatenated convolution features."""
        return sum(count for _, count in self.filters)

    @property
    def output_dim(self) -> int:
        """2P, the width of a contextual layer."""
        return 2 * self.projection_dim

    @property
    def layer_names(self) -> tuple[str, ...]:
        """lstm_outputs1, lstm_outputs2, ...: the contextual layers from the bottom up."""
        return tuple(f"lstm_outputs{layer}" for layer in range(1, self.n_layers + 1))

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> ElmoConfig:
        """Read the content of an `options.json`; keys used only in training are ignored.

        Args:
            options: The parsed JSON, with the keys of AllenNLP or bilm-tf.

        Returns:
            The sizes of the ELMo.

        Raises:
            ConfigError: A key is missing or wrong.
        """
        lstm, char_cnn = _section(options, "lstm"), _section(options, "char_cnn")
        embedding = _section(char_cnn, "embedding")
        n_characters = _integer(char_cnn, "n_characters", 262)
        if n_characters not in (261, 262):
            raise ConfigError(f"char_cnn.n_characters is {n_characters}, must be 261 or 262")
        return cls(
            projection_dim=_integer(lstm, "projection_dim"),
            lstm_dim=_integer(lstm, "dim"),
            n_layers=_integer(lstm, "n_layers", 1),
            use_skip_connections=_boolean(lstm, "use_skip_connections", False),
            cell_clip=_clip(lstm, "cell_clip"),
            proj_clip=_clip(lstm, "proj_clip"),
            char_embedding_dim=_integer(embedding, "dim"),
            filters=_filters(char_cnn.get("filters")),
            n_highway=_integer(char_cnn, "n_highway", 0),
            activation=str(char_cnn.get("activation", "relu")),
            max_characters_per_token=_integer(char_cnn, "max_characters_per_token", 50),
        )

    def to_options(self) -> dict[str, Any]:
        """The options with AllenNLP's keys; `from_options` reads them back unchanged."""
        return {
            "lstm": {
                "dim": self.lstm_dim,
                "projection_dim": self.projection_dim,
                "n_layers": self.n_layers,
                "use_skip_connections": self.use_skip_connections,
                "cell_clip": self.cell_clip,
                "proj_clip": self.proj_clip,
            },
            "char_cnn": {
                "activation": self.activation,
                "embedding": {"dim": self.char_embedding_dim},
                "filters": [list(pair) for pair in self.filters],
                "n_highway": self.n_highway,
                "n_characters": 262,
                "max_characters_per_token": self.max_characters_per_token,
            },
        }


def _section(options: Any, key: str) -> Mapping[str, Any]:
    section = options.get(key) if isinstance(options, Mapping) else None
    if not isinstance(section, Mapping):
        hint = "word-input models have no characters" if key == "char_cnn" else ""
        raise ConfigError(f"options: {key} is {section!r}, must be an object", hint=hint)
    return section


def _integer(section: Mapping[str, Any], key: str, default: int | None = None) -> int:
    value = section.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"options: {key} is {value!r}, must be an integer")
    return value


def _boolean(section: Mapping[str, Any], key: str, default: bool) -> bool:
    value = section.get(key, default)
    if not isinstance(value, bool):
        raise ConfigError(f"options: {key} is {value!r}, must be true or false")
    return value


def _clip(section: Mapping[str, Any], key: str) -> float | None:
    value = section.get(key)
    if value is None or value == 0:
        return None  # bilm-tf: absent, null and 0 all mean no clip
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e30:
        raise ConfigError(f"options: {key} is {value!r}, must be a positive number or null")
    return float(value)


def _filters(value: Any) -> tuple[tuple[int, int], ...]:
    pairs = value if isinstance(value, list) else []
    for pair in pairs:
        if not (
            isinstance(pair, list | tuple)
            and len(pair) == 2
            and all(isinstance(number, int) for number in pair)
        ):
            raise ConfigError(f"options: filter {pair!r} must be [width, count]")
    return tuple((width, count) for width, count in pairs)
