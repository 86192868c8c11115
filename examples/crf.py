"""A linear-chain conditional random field over the tags of a sentence (Lafferty et al. 2001)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Crf(nn.Module):
    """Scores of tag sequences: first tags, pairs of adjacent tags and last tags.

    Every method takes the emissions (batch, length, tags) of a tagger and the mask (batch,
    length), True for words; each sentence has at least one word.
    """

    def __init__(self, n_tags: int) -> None:
        super().__init__()
        self.first, self.last = (nn.Parameter(torch.zeros(n_tags)) for _ in range(2))
        self.pairs = nn.Parameter(torch.zeros(n_tags, n_tags))  # [tag, next tag]

    def loss(self, emissions: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        """Mean negative log-probability of the tags (batch, length)."""
        return (self.log_partition(emissions, mask) - self.score(emissions, tags, mask)).mean()

    def score(self, emissions: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        """Unnormalized log-score of the tags (batch, length) -> (batch,)."""
        chosen = emissions.gather(2, tags.unsqueeze(2)).squeeze(2) * mask
        pairs = self.pairs[tags[:, :-1], tags[:, 1:]] * mask[:, 1:]
        ends = tags.gather(1, mask.sum(dim=1, keepdim=True) - 1).squeeze(1)
        return chosen.sum(dim=1) + pairs.sum(dim=1) + self.first[tags[:, 0]] + self.last[ends]

    def log_partition(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """Log-sum of the exponentiated scores of all tag sequences -> (batch,)."""
        alpha = self.first + emissions[:, 0]
        for step in range(1, emissions.shape[1]):
            longer = torch.logsumexp(alpha.unsqueeze(2) + self.pairs, dim=1) + emissions[:, step]
            alpha = torch.where(mask[:, step, None], longer, alpha)
        return torch.logsumexp(alpha + self.last, dim=1)

    @torch.no_grad()
    def decode(self, emissions: Tensor, mask: Tensor) -> list[list[int]]:
        """The best tags of each sentence (the Viterbi algorithm)."""
        best, pointers = self.first + emissions[:, 0], []
        for step in range(1, emissions.shape[1]):
            values, before = (best.unsqueeze(2) + self.pairs).max(dim=1)
            best = torch.where(mask[:, step, None], values + emissions[:, step], best)
            pointers.append(before)
        ends = (best + self.last).argmax(dim=1).tolist()
        came_from = torch.stack(pointers, dim=1).tolist() if pointers else [[]] * len(ends)
        lengths = mask.sum(dim=1).tolist()
        return [_path(*row) for row in zip(ends, came_from, lengths, strict=True)]


def _path(end: int, came_from: list[list[int]], length: int) -> list[int]:
    path = [end]
    for before in reversed(came_from[: length - 1]):
        path.append(before[path[-1]])
    return path[::-1]
