"""Several processes that share one batch: the rows of each process, and means over all processes.

Every process reads the same streams and takes its own rows, so that N processes compute what one
process with an N times larger batch would.
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
    owns_group: bool = False  # whether `join` made the process group

    @classmethod
    def join(cls, device: torch.device) -> Processes:
        """Join the processes that torchrun started; without torchrun, this is the only process."""
        owns_group = not dist.is_initialized()
        if owns_group and not dist.is_torchelastic_launched():
            return cls()
        if owns_group:
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        return cls(dist.get_rank(), dist.get_world_size(), owns_group)

    def leave(self) -> None:
        """Destroy the process group if `join` made it."""
        if self.owns_group:
            dist.destroy_process_group()

    def wait(self) -> None:
        """Return when every process has called this."""
        self.any(False)

    def rows(self, per_process: int) -> slice:
        """The rows of the shared batch that belong to this process."""
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
        """The mean of every gradient over all processes; all dense ones in one call."""
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
        """Concatenate tensors whose first dimension differs between processes."""
        size = torch.tensor([len(x)], device=x.device)
        sizes = [int(s) for s in self.join_rows(size, 0)]
        padded = x.new_zeros(max(sizes), *x.shape[1:])
        padded[: len(x)] = x
        parts = torch.split(self.join_rows(padded, 0), max(sizes))
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])


def merge_rows(rows: Tensor, values: Tensor) -> RowGradient:
    """Rows with repetitions -> distinct rows with the sums of their values."""
    distinct, places = torch.unique(rows, return_inverse=True)
    sums = values.new_zeros(len(distinct), *values.shape[1:])
    return RowGradient(distinct, sums.index_add_(0, places, values))
