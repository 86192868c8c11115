"""An independent ELMo in float64 numpy: slow, plain, one sentence and one step at a time.

Written from the published definition alone. It reads the published files, so it shares neither
code nor tensor names with the model, the graphs, the runtime or the importer.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def character_ids(token: str, width: int = 50) -> list[int]:
    """Ids of inference: raw id + 1. The literal tokens <S> and </S> are the boundary tokens."""
    boundaries = {"<S>": [256], "</S>": [257]}
    inner = boundaries.get(token) or list(token.encode("utf-8", "ignore"))[: width - 2]
    raw = [258, *inner, 259]
    raw += [260] * (width - len(raw))
    return [number + 1 for number in raw]


@dataclass
class State:
    """h and c of each (direction, layer). Missing entries are zero."""

    h: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)
    c: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)


@dataclass
class Clipped:
    """How many values were computed, and how many of them a clip changed."""

    values: Counter = field(default_factory=Counter)
    bound: Counter = field(default_factory=Counter)

    def share(self, which: str) -> float:
        return self.bound[which] / self.values[which]


class Oracle:
    """One ELMo. `clipped` counts how often the clips changed a value."""

    def __init__(self, options: dict, weights: dict[str, np.ndarray]) -> None:
        self.lstm, self.cnn = options["lstm"], options["char_cnn"]
        self.weights = {name: array.astype(np.float64) for name, array in weights.items()}
        self.clipped = Clipped()

    @classmethod
    def read(cls, options: Path, weights: Path) -> Oracle:
        arrays = {}

        def keep(name, node):
            if isinstance(node, h5py.Dataset):
                arrays[name] = node[...]

        with h5py.File(weights) as file:
            file.visititems(keep)
        return cls(json.loads(options.read_text()), arrays)

    @property
    def width(self) -> int:
        return self.cnn["max_characters_per_token"]

    def token_vector(self, ids: Sequence[int]) -> np.ndarray:
        """Characters of one token -> (P,)."""
        embedding = np.vstack([np.zeros(self.cnn["embedding"]["dim"]), self.weights["char_embed"]])
        x = self.convolutions(embedding[list(ids)])
        for number in range(self.cnn["n_highway"]):
            x = self.highway(x, f"CNN_high_{number}")
        return x @ self.weights["CNN_proj/W_proj"] + self.weights["CNN_proj/b_proj"]

    def convolutions(self, characters: np.ndarray) -> np.ndarray:
        features = []
        for number, (width, _) in enumerate(self.cnn["filters"]):
            kernel = self.weights[f"CNN/W_cnn_{number}"][0]  # (w, d, n)
            windows = sliding_window_view(characters, width, axis=0)  # (positions, d, w)
            found = np.tensordot(windows, kernel, axes=([2, 1], [0, 1]))
            maximum = found.max(axis=0) + self.weights[f"CNN/b_cnn_{number}"]
            features.append(np.tanh(maximum) if self.cnn["activation"] == "tanh" else relu(maximum))
        return np.concatenate(features)

    def highway(self, x: np.ndarray, name: str) -> np.ndarray:
        gate = sigmoid(x @ self.weights[f"{name}/W_carry"] + self.weights[f"{name}/b_carry"])
        new = relu(x @ self.weights[f"{name}/W_transform"] + self.weights[f"{name}/b_transform"])
        return gate * new + (1 - gate) * x

    def cell(self, key: tuple[int, int], x: np.ndarray, state: State) -> np.ndarray:
        """One step of (direction, layer): advance the state and return the output (P,)."""
        name = "RNN_{}/RNN/MultiRNNCell/Cell{}/LSTMCell".format(*key)
        size = self.lstm["dim"]
        h = state.h.get(key, np.zeros(self.lstm["projection_dim"]))
        c = state.c.get(key, np.zeros(size))
        z = np.concatenate([x, h]) @ self.weights[f"{name}/W_0"] + self.weights[f"{name}/B"]
        i, j, f, o = z[:size], z[size : 2 * size], z[2 * size : 3 * size], z[3 * size :]
        c = self.clip("cell_clip", sigmoid(f + 1.0) * c + sigmoid(i) * np.tanh(j))
        h = self.clip("proj_clip", (sigmoid(o) * np.tanh(c)) @ self.weights[f"{name}/W_P_0"])
        state.h[key], state.c[key] = h, c
        return h

    def clip(self, which: str, x: np.ndarray) -> np.ndarray:
        limit = self.lstm.get(which) or np.inf
        self.clipped.values[which] += x.size
        self.clipped.bound[which] += int((np.abs(x) > limit).sum())
        return np.minimum(np.maximum(x, -limit), limit)

    def direction(self, number: int, tokens: list[np.ndarray], state: State) -> list[np.ndarray]:
        """(n, P) in the order of reading -> each layer's (n, P), in the same order."""
        layers, below = [], tokens
        for depth in range(self.lstm["n_layers"]):
            above = [self.cell((number, depth), x, state) for x in below]
            if depth > 0 and self.lstm["use_skip_connections"]:
                above = [h + x for h, x in zip(above, below, strict=True)]
            layers.append(np.array(above))
            below = above
        return layers

    def sentence(self, rows: Sequence[Sequence[int]], state: State) -> np.ndarray:
        """Character ids of the tokens -> (n_layers + 1, n, 2P); advances the state."""
        begin, end = (character_ids(token, self.width) for token in ("<S>", "</S>"))
        tokens = [self.token_vector(ids) for ids in [begin, *rows, end]]
        forward = self.direction(0, tokens, state)
        backward = [layer[::-1] for layer in self.direction(1, tokens[::-1], state)]
        layers = [np.hstack([tokens, tokens])]
        layers += [np.hstack(pair) for pair in zip(forward, backward, strict=True)]
        return np.array(layers)[:, 1:-1]

    def embed(self, sentence: Iterable[str], state: State | None = None) -> np.ndarray:
        """Tokens -> (n_layers + 1, n, 2P)."""
        rows = [character_ids(token, self.width) for token in sentence]
        return self.sentence(rows, State() if state is None else state)


def mix(layers: np.ndarray, weights: Sequence[float], gamma: float) -> np.ndarray:
    """(n_layers + 1, n, 2P) -> (n, 2P)."""
    shares = np.exp(np.asarray(weights, np.float64))
    return gamma * np.tensordot(shares / shares.sum(), layers, axes=1)


def layer_normalized(layers: np.ndarray) -> np.ndarray:
    """(n_layers + 1, n, 2P): each layer of a sentence by the one mean and variance of its numbers.

    What bilm-tf computes for a batch of one sentence.
    """
    mean = layers.mean(axis=(1, 2), keepdims=True)
    return (layers - mean) / np.sqrt(layers.var(axis=(1, 2), keepdims=True) + 1e-12)


def pooled(vectors: np.ndarray) -> np.ndarray:
    """(n, 2P) -> (2P,): the mean over tokens; no tokens give zeros."""
    return vectors.mean(axis=0) if len(vectors) else np.zeros(vectors.shape[1])


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def relu(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, 0.0)


def padded_ids(sentences: Sequence[Sequence[str]], width: int = 50) -> np.ndarray:
    """Tokens -> (batch, length, width) int32, 0 past each sentence."""
    ids = np.zeros((len(sentences), max(map(len, sentences), default=0), width), np.int32)
    for row, sentence in enumerate(sentences):
        for position, token in enumerate(sentence):
            ids[row, position] = character_ids(token, width)
    return ids
