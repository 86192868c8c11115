"""The original authors' golden vectors: 10 steps of 3 sentences, with a state per row."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np


@dataclass(frozen=True)
class Golden:
    """One fixture: files of a model, its sentences, and the rows of the batch with vectors."""

    folder: str
    sentences_file: str
    rows: tuple[int, ...]

    def files(self, shared_data: Path) -> tuple[Path, Path]:
        """options.json and the weights."""
        folder = shared_data / "elmo-fixtures" / self.folder
        return folder / "options.json", folder / "lm_weights.hdf5"

    def batches(self, shared_data: Path) -> list[list[list[str]]]:
        """10 batches of 3 sentences."""
        path = shared_data / "elmo-fixtures" / self.folder / self.sentences_file
        rows = json.loads(path.read_text("utf-8"))
        return [[text.split() for text in batch] for batch in zip(*rows, strict=True)]

    def top_layers(self, shared_data: Path) -> Iterator[dict[int, np.ndarray]]:
        """For each batch: row -> (n, 2P) of the top layer."""
        folder = shared_data / "elmo-fixtures" / self.folder
        for step in range(10):
            vectors = {}
            for row in self.rows:
                with h5py.File(folder / f"lm_embeddings_{row}.hdf5") as file:
                    vectors[row] = np.hstack(list(file[str(step)][...]))  # (2, n, P)
            yield vectors


GOLDEN = (
    Golden("bilm-tf/model", "lm_embeddings_sentences.json", (0, 1, 2)),  # no skip connections
    Golden("allennlp", "sentences.json", (0,)),  # skip connections
)
