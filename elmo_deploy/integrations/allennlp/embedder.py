"""AllenNLP's `ElmoEmbedder`, which flair and SeqVec call."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from elmo_deploy.integrations.allennlp.bilm import ElmoBiLm, remove_sentence_boundaries
from elmo_deploy.integrations.allennlp.elmo import batch_to_ids, read_files
from elmo_runtime.errors import InputError
from elmo_runtime.files.atomic import atomic_file
from elmo_runtime.hdf5 import Hdf5Output, import_h5py

_PUBLISHED = "https://s3-us-west-2.amazonaws.com/allennlp/models/elmo/2x4096_512_2048cnn_2xhighway/"
DEFAULT_OPTIONS_FILE = f"{_PUBLISHED}elmo_2x4096_512_2048cnn_2xhighway_options.json"
DEFAULT_WEIGHT_FILE = f"{_PUBLISHED}elmo_2x4096_512_2048cnn_2xhighway_weights.hdf5"
DEFAULT_BATCH_SIZE = 64
OUTPUT_FORMATS = ("all", "top", "average")


class ElmoEmbedder:
    """The layers of tokenized sentences as arrays; row b continues row b of the previous call.

    options_file and weight_file are paths or URLs. cuda_device: a GPU, or -1 for the CPU.
    """

    def __init__(
        self,
        options_file: str | Path = DEFAULT_OPTIONS_FILE,
        weight_file: str | Path = DEFAULT_WEIGHT_FILE,
        cuda_device: int = -1,
    ) -> None:
        device = torch.device("cpu" if cuda_device < 0 else f"cuda:{cuda_device}")
        self.cuda_device = cuda_device
        checkpoint = read_files(str(options_file), str(weight_file))
        self.elmo_bilm = ElmoBiLm(checkpoint).to(device).eval()
        self._device = device

    def batch_to_embeddings(self, batch: Sequence[Sequence[str]]) -> tuple[Tensor, Tensor]:
        """Sentences -> layers (batch, layers + 1, length, 2P) and the mask (batch, length)."""
        with torch.no_grad():
            layers, mask = self.elmo_bilm(batch_to_ids(batch).to(self._device))
        inner = [remove_sentence_boundaries(layer, mask) for layer in layers]
        return torch.stack([layer for layer, _ in inner], dim=1), inner[0][1]

    def embed_sentence(self, sentence: Sequence[str]) -> NDArray[np.float32]:
        """The layers (layers + 1, tokens, 2P) of one sentence."""
        return self.embed_batch([sentence])[0]

    def embed_batch(self, batch: Sequence[Sequence[str]]) -> list[NDArray[np.float32]]:
        """The layers (layers + 1, tokens, 2P) of each sentence."""
        activations, _ = self.batch_to_embeddings(batch)
        arrays = activations.cpu().numpy()
        return [array[:, : len(sentence)] for array, sentence in zip(arrays, batch, strict=True)]

    def embed_sentences(
        self, sentences: Iterable[Sequence[str]], batch_size: int = DEFAULT_BATCH_SIZE
    ) -> Iterator[NDArray[np.float32]]:
        """The layers of each sentence, in order; one batch is in memory at a time."""
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}, must be at least 1")
        iterator = iter(sentences)
        while batch := list(islice(iterator, batch_size)):
            yield from self.embed_batch(batch)

    def embed_file(
        self,
        input_file: IO[str],
        output_file_path: str | Path,
        output_format: str = "all",
        batch_size: int = DEFAULT_BATCH_SIZE,
        forget_sentences: bool = False,
        use_sentence_keys: bool = False,
    ) -> None:
        """Embed one sentence per line to HDF5, by line number or by sentence.

        output_format: "all" layers, the "top" one or their "average". Raises InputError for a
        blank line, as AllenNLP does, and for a sentence that is repeated as a key.
        """
        if output_format not in OUTPUT_FORMATS:
            raise InputError(f"output_format is {output_format!r}, must be one of {OUTPUT_FORMATS}")
        lines = [line.strip() for line in input_file]
        keys = _keys(lines, use_sentence_keys)
        sentences = [line.split() for line in lines]
        path = Path(output_file_path)
        with atomic_file(path) as scratch, Hdf5Output(scratch) as file:
            embedded = self.embed_sentences(sentences, batch_size)
            for key, layers in zip(keys, embedded, strict=True):
                file.add(key, data=_formatted(layers, output_format))
            if not (forget_sentences or use_sentence_keys):
                index = json.dumps(dict(zip(lines, keys, strict=True)))
                text = import_h5py().string_dtype()
                file.add("sentence_to_index", shape=(1,), dtype=text, data=[index])


def _keys(lines: Sequence[str], use_sentences: bool) -> list[str]:
    for number, line in enumerate(lines, start=1):
        if not line:
            raise InputError(f"line {number} is blank", hint="remove blank lines from the input")
    if not use_sentences:
        return [str(number) for number in range(len(lines))]
    keys = [line.replace(".", "{period}").replace("/", "{slash}") for line in lines]
    repeated = [key for key, count in Counter(keys).items() if count > 1]
    if repeated:
        raise InputError(f"the sentence {repeated[0]!r} is repeated, so it cannot be a key")
    return keys


def _formatted(layers: NDArray[np.float32], output_format: str) -> Any:
    match output_format:
        case "top":
            return layers[-1]
        case "average":
            return layers.mean(axis=0)
        case _:
            return layers
