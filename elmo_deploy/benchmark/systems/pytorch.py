"""The torch systems of the table: the reference model and the common substitute."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from elmo_deploy.benchmark.loads import Sentence
from elmo_deploy.benchmark.subject import Subject
from elmo_deploy.benchmark.systems.nn_lstm import Substitute
from elmo_deploy.model.elmo import Elmo
from elmo_runtime.bundle.manifest import Bundle
from elmo_runtime.characters import char_ids


class TorchRunner:
    """Runs a module of character ids -> vectors (batch, length, 2P), from sentences to numpy."""

    def __init__(
        self, model: nn.Module, parts: Mapping[str, nn.Module], max_characters: int
    ) -> None:
        self.model, self.parts, self.max_characters = model, parts, max_characters

    @torch.inference_mode()
    def embed(self, sentences: Sequence[Sentence]) -> NDArray[np.float32]:
        """(batch, length, 2P), 0 past each sentence."""
        vectors: NDArray[np.float32] = self.model(self.ids(sentences)).numpy()
        return vectors

    def ids(self, sentences: Sequence[Sentence]) -> Tensor:
        """(batch, length, characters) int32."""
        tokens = [token for sentence in sentences for token in sentence]
        padded = np.zeros((len(sentences), max(map(len, sentences)), self.max_characters), np.int32)
        real = np.arange(padded.shape[1]) < np.array([[len(sentence)] for sentence in sentences])
        padded[real] = char_ids(tokens, max_characters=self.max_characters)
        return torch.from_numpy(padded)

    def stages(self, sentences: Sequence[Sentence]) -> dict[str, float]:
        """Seconds of the ids, of each part of the model, and of the remainder as copy."""
        start = time.perf_counter()
        self.ids(sentences)
        seconds = {"characters": time.perf_counter() - start}
        hooks = [_clock(part, name, seconds) for name, part in self.parts.items()]
        start = time.perf_counter()
        self.embed(sentences)
        seconds["copy"] = time.perf_counter() - start - sum(seconds.values())
        for remove in (remove for pair in hooks for remove in pair):
            remove()
        return seconds


class MixedReference(nn.Module):
    """The reference model, which returns only the first mix."""

    def __init__(self, elmo: Elmo) -> None:
        super().__init__()
        self.elmo = elmo

    def forward(self, ids: Tensor) -> Tensor:
        """Character ids (batch, length, characters) -> (batch, length, 2P)."""
        mix: Tensor = self.elmo(ids).elmo[0]
        return mix


def open_reference(subject: Subject) -> TorchRunner:
    """elmo_deploy.Elmo in eager mode."""
    elmo = _load(subject)
    return TorchRunner(
        MixedReference(elmo),
        {"CNN": elmo.char_cnn, "LSTM": elmo.bilm},
        elmo.config.max_characters_per_token,
    )


def open_substitute(subject: Subject) -> TorchRunner:
    """torch.nn.LSTM(proj_size) in place of ELMo's LSTMs."""
    elmo = _load(subject)
    model = Substitute(elmo).eval()
    return TorchRunner(
        model,
        {"CNN": model.char_cnn, "LSTM": model.bilm},
        elmo.config.max_characters_per_token,
    )


def _load(subject: Subject) -> Elmo:
    """The model of the checkpoint, or random weights of the same shape, which are as fast."""
    if subject.threads is not None:
        torch.set_num_threads(subject.threads)
    if subject.checkpoint is not None:
        return Elmo.from_checkpoint(subject.checkpoint).eval()
    return Elmo(Bundle.open(subject.bundle).config).eval()


def _clock(part: nn.Module, name: str, seconds: dict[str, float]) -> list[Callable[[], Any]]:
    """Measure the time of a part; return the functions that remove the clock."""
    started: list[float] = []
    before = part.register_forward_pre_hook(lambda *_: started.append(time.perf_counter()))

    def stop(*_: object) -> None:
        seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - started.pop()

    return [before.remove, part.register_forward_hook(stop).remove]
