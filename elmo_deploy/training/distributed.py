"""Several processes that share one batch: who reads which rows, and means over all of them.

Every process reads the same streams and takes its own rows, so that N processes compute what one
with an N times larger batch would.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from elmo_deploy.training.optimizer import Gradients
from elmo_deploy.training.softmax import RowGradient


@dataclass(frozen=True)
class Processes:
    """One process, number `rank` of `count`."""

    rank: int = 0
    count: int = 1
    ours: bool = False  # the group of processes was made here

    @classmethod
    def join(cls, device: torch.device) -> Processes:
        """Join the others that torchrun started; alone when it did not start this one."""
        ours = not dist.is_initialized()
        if ours and not dist.is_torchelastic_launched():
            return cls()
        if ours:
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        return cls(dist.get_rank(), dist.get_world_size(), ours)

    def leave(self) -> None:
        """Part from the others, if it was `join` that brought them together."""
        if self.ours:
            dist.destroy_process_group()

    def wait(self) -> None:
        """Return when every process has come here."""
        self.any(False)

    def rows(self, per_process: int) -> slice:
        """The rows of the common batch that are this process's own."""
        return slice(self.rank * per_process, (self.rank + 1) * per_process)

    def mean(self, x: Tensor) -> Tensor:
        """The mean of a tensor over all processes."""
        if self.count > 1:
            dist.all_reduce(x)
            x /= self.count
        return x

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        if self.count == 1:
            return flag
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        flags = torch.tensor([float(flag)], device=device)
        dist.all_reduce(flags, dist.ReduceOp.MAX)
        return bool(flags.item())

    def join_rows(self, x: Tensor, dim: int) -> Tensor:
        """The rows of all processes along `dim`, in order."""
        if self.count == 1:
            return x
        parts = [torch.empty_like(x) for _ in range(self.count)]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts, dim=dim)

    def average(self, gradients: Gradients) -> Gradients:
        """The mean of every gradient over all processes, rows merged and dense ones in one go."""
        if self.count == 1:
            return gradients
        dense = {n: g for n, g in gradients.items() if isinstance(g, Tensor)}
        flat = self.mean(torch.cat([g.flatten() for g in dense.values()]))
        parts = torch.split(flat, [g.numel() for g in dense.values()])
        means: Gradients = {
            name: part.view_as(g) for (name, g), part in zip(dense.items(), parts, strict=True)
        }
        for name, gradient in gradients.items():
            if isinstance(gradient, RowGradient):
                means[name] = self._average_rows(gradient)
        return means

    def _average_rows(self, gradient: RowGradient) -> RowGradient:
        rows = self._gather_ragged(gradient.rows)
        values = self._gather_ragged(gradient.values)
        return merge_rows(rows, values / self.count)

    def _gather_ragged(self, x: Tensor) -> Tensor:
        """Concatenate tensors whose first size differs from process to process."""
        size = torch.tensor([len(x)], device=x.device)
        sizes = [int(s) for s in self.join_rows(size, 0)]
        padded = x.new_zeros(max(sizes), *x.shape[1:])
        padded[: len(x)] = x
        parts = torch.split(self.join_rows(padded, 0), max(sizes))
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])


def merge_rows(rows: Tensor, values: Tensor) -> RowGradient:
    """Rows that may repeat -> distinct rows with the sums of their values."""
    distinct, places = torch.unique(rows, return_inverse=True)
    sums = values.new_zeros(len(distinct), *values.shape[1:])
    return RowGradient(distinct, sums.index_add_(0, places, values))
