"""One word in many sentences: its position, its nearest neighbor and its place on a plane."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Example:
    """A sentence that uses `word` once, at `position`, in one of its senses."""

    word: str
    sense: str
    tokens: tuple[str, ...]
    position: int

    def snippet(self, longest: int) -> tuple[str, str]:
        """The words directly before and after, at most `longest` characters each."""
        before = [token for token in self.tokens[: self.position] if token[0].isalnum()]
        after = [token for token in self.tokens[self.position + 1 :] if token[0].isalnum()]
        while len(" ".join(before)) > longest:
            before.pop(0)
        while len(" ".join(after)) > longest:
            after.pop()
        return " ".join(before), " ".join(after)


def read_examples(path: Path) -> list[Example]:
    """Read lines of a word, a sense and a tokenized sentence, separated by tabs."""
    examples = []
    for line in path.read_text("utf-8").splitlines():
        word, sense, sentence = line.split("\t")
        tokens = tuple(sentence.split(" "))
        examples.append(Example(word, sense, tokens, tokens.index(word)))
    return examples


def vectors_of_words(examples: list[Example], embedded: Path) -> Vectors:
    """(examples, dim): the vector of each example's word in the file of `elmo-deploy embed`."""
    from safetensors.numpy import load_file

    arrays = load_file(embedded)
    positions = np.array([example.position for example in examples])
    return np.asarray(arrays["vectors"][arrays["offsets"][:-1] + positions], np.float32)


def nearest_neighbors(examples: list[Example], vectors: Vectors) -> list[tuple[int, float]]:
    """For each example, the other sentence in which its word is most similar, and the cosine.

    The mean over all sentences of a word, which mostly encodes its spelling, is subtracted first.
    """
    nearest: list[tuple[int, float]] = []
    for index, example in enumerate(examples):
        rows = [i for i, other in enumerate(examples) if other.word == example.word]
        centered = vectors[rows] - vectors[rows].mean(axis=0)
        centered /= np.linalg.norm(centered, axis=1, keepdims=True)
        cosines = centered @ centered[rows.index(index)]
        cosines[rows.index(index)] = -1
        best = int(cosines.argmax())
        nearest.append((rows[best], float(cosines[best])))
    return nearest


def on_a_plane(vectors: Vectors) -> Vectors:
    """(n, dim) -> (n, 2): the two directions in which the vectors differ most (PCA)."""
    centered = vectors - vectors.mean(axis=0)
    left, lengths, _ = np.linalg.svd(centered, full_matrices=False)
    plane = left[:, :2] * lengths[:2]
    return np.asarray(plane * np.sign(plane[0]), np.float32)  # the first example is up and right
