"""Characters of a word -> its context-independent vector.

Kim et al. 2016, https://arxiv.org/abs/1508.06615, in the sizes of Jozefowicz et al. 2016,
https://arxiv.org/abs/1602.02410, and Peters et al. 2018, https://arxiv.org/abs/1802.05365.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elmo_runtime import characters
from elmo_runtime.config import ElmoConfig


class Highway(nn.Module):
    """gate * relu(transform(x)) + (1 - gate) * x, with relu also where the CNN uses tanh."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.transform = nn.Linear(width, width)
        self.gate = nn.Linear(width, width)  # called "carry" in the published files

    def forward(self, x: Tensor) -> Tensor:
        """(..., F) -> (..., F)."""
        gate = torch.sigmoid(self.gate(x))
        return gate * torch.relu(self.transform(x)) + (1 - gate) * x

    def reset_parameters(self, generator: torch.Generator) -> None:
        """The paper's initialization: the gate is nearly closed, so x passes through."""
        for linear in (self.transform, self.gate):
            reset_linear(linear, generator)
        nn.init.constant_(self.gate.bias, -2.0)


class CharCnn(nn.Module):
    """Character embedding, convolutions with max over positions, highways, projection.

    The character CNN of https://arxiv.org/abs/1508.06615 with the projection of
    https://arxiv.org/abs/1602.02410.
    """

    def __init__(self, config: ElmoConfig) -> None:
        super().__init__()
        self.activation = torch.relu if config.activation == "relu" else torch.tanh
        self.embedding = nn.Parameter(
            torch.empty(characters.N_RAW_CHARACTERS, config.char_embedding_dim)
        )
        self.convolutions = nn.ModuleList(
            nn.Conv1d(config.char_embedding_dim, count, width) for width, count in config.filters
        )
        self.highways = nn.ModuleList(Highway(config.n_filters) for _ in range(config.n_highway))
        self.projection = nn.Linear(config.n_filters, config.projection_dim)

    def forward(self, char_ids: Tensor) -> Tensor:
        """(..., characters) shifted ids in 0..261 -> (..., P) token vectors."""
        words = char_ids.flatten(end_dim=-2)  # (words, characters)
        vectors = self.project(self.convolve(self.embed(words)))
        return vectors.view(*char_ids.shape[:-1], vectors.shape[-1])

    def embed(self, char_ids: Tensor) -> Tensor:
        """(words, characters) -> (words, characters, d); id 0, no character, gives zeros."""
        return F.embedding(char_ids, F.pad(self.embedding, (0, 0, 1, 0)))

    def convolve(self, characters: Tensor) -> Tensor:
        """(words, characters, d) -> (words, F): the activation of the maximum over positions."""
        x = characters.transpose(1, 2)
        maxima = [convolution(x).amax(dim=-1) for convolution in self.convolutions]
        # relu and tanh are monotonic, so this equals the maximum of the activations.
        return self.activation(torch.cat(maxima, dim=-1))

    def project(self, features: Tensor) -> Tensor:
        """(words, F) -> (words, P), through the highways."""
        for highway in self.highways:
            features = highway(features)
        vectors: Tensor = self.projection(features)
        return vectors

    def reset_parameters(self, generator: torch.Generator) -> None:
        """The paper's initialization."""
        nn.init.uniform_(self.embedding, -1.0, 1.0, generator)
        for part in self.modules():
            if isinstance(part, nn.Conv1d):
                self.reset_convolution(part, generator)
            if isinstance(part, Highway):
                part.reset_parameters(generator)
        reset_linear(self.projection, generator)

    def reset_convolution(self, convolution: nn.Conv1d, generator: torch.Generator) -> None:
        """Uniform before relu and normal before tanh, as in bilm-tf."""
        if self.activation is torch.relu:
            nn.init.uniform_(convolution.weight, -0.05, 0.05, generator)
        else:
            fan_in = convolution.in_channels * convolution.kernel_size[0]
            nn.init.normal_(convolution.weight, 0.0, math.sqrt(1 / fan_in), generator)
        if convolution.bias is not None:
            nn.init.zeros_(convolution.bias)


def reset_linear(linear: nn.Linear, generator: torch.Generator) -> None:
    """N(0, sqrt(1 / inputs)), bias 0."""
    nn.init.normal_(linear.weight, 0.0, math.sqrt(1 / linear.in_features), generator)
    nn.init.zeros_(linear.bias)
