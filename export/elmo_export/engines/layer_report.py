"""The layers of a plan, read from the list that the compiler prints while it builds.

TensorRT and TensorRT-RTX print the finished engine, layer by layer, in their verbose log. Only
this list shows without a GPU whether the compiler fused the graph as intended.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from statistics import mode
from typing import Any

# Arithmetic on host counters and stream synchronization: none of it is launched on the GPU.
_NO_KERNEL = frozenset({"memset", "shape_call", "ShapeHostToDevice", "copy", "cast", "reshape"})
_NO_KERNEL |= {"add", "sub", "mul", "div", "cmp", "cjmp", "label", "signal", "wait"}
_GEMM_KINDS = (
    "gemm",
    "runtime_fusion",
    "correlation",
    "conv",
)  # all kinds that multiply with weights

_LAYER = re.compile(
    r"^Name: (?P<name>.+?), LayerType: (?P<kind>\w+), Inputs: \[(?P<inputs>.*?)\],"
    r" (?:Constants: \[(?P<constants>.*?)\], )?Outputs: \[(?P<outputs>.*?)\], "
    r"(?:TacticName|TacticValue|ParameterType)"
)
_TENSOR = re.compile(
    r"Name: (.+?), (?:Location: \w+, )?Dimensions: \[([-\d,]*)\].*?Datatype: (\w+)"
)
_ACTIVATIONS = re.compile(r"Total Activation Memory: (\d+) bytes")
_WEIGHTS = re.compile(r"Total Weights Memory: (\d+) bytes")


@dataclass(frozen=True)
class ListedTensor:
    """A tensor of the list. A free size is -1; the dtype is in the compiler's notation."""

    name: str
    dims: tuple[int, ...]
    dtype: str

    @property
    def is_matrix(self) -> bool:
        """Whether two sizes exceed 1: then it is a weight, and not a bias or a factor."""
        return sum(size > 1 for size in self.dims) >= 2


@dataclass(frozen=True)
class ListedLayer:
    """One line of the list."""

    name: str
    kind: str
    constants: tuple[ListedTensor, ...]
    outputs: tuple[ListedTensor, ...]

    @property
    def is_kernel(self) -> bool:
        """Whether the GPU runs it. Unknown kinds count, so that none is overlooked."""
        return self.kind not in _NO_KERNEL

    @property
    def weights(self) -> tuple[ListedTensor, ...]:
        """The weight matrices of its products."""
        if self.kind not in _GEMM_KINDS:
            return ()
        return tuple(constant for constant in self.constants if constant.is_matrix)


@dataclass(frozen=True, kw_only=True)
class LayerReport:
    """The figures by which an engine is evaluated without running it. Sizes are bytes."""

    kernels_per_step: float | None  # per layer, both directions; None: nothing is repeated
    kernels: int  # in the list; those of an unrolled loop run once per round
    device_to_host_copies: (
        int  # each blocks an enqueue until the GPU is ready, and prevents capture
    )
    fp32_products: int
    replicated_weights: int  # weights copied into activation memory
    weight_bytes: int
    activation_bytes: int

    def to_json(self) -> dict[str, Any]:
        """The form in engine.json."""
        return asdict(self)


def report_layers(log: str, *, n_layers: int) -> LayerReport:
    """The report on one plan of a biLM of n_layers, from the log of its build."""
    layers = list_layers(log)
    kernels = [layer for layer in layers if layer.is_kernel]
    return LayerReport(
        kernels_per_step=kernels_per_step(kernels, n_layers),
        kernels=len(kernels),
        device_to_host_copies=sum(layer.name.startswith("copy_d2h") for layer in layers),
        fp32_products=sum(
            any(weight.dtype == "Float" for weight in layer.weights) for layer in layers
        ),
        replicated_weights=count_replicated_weights(layers),
        weight_bytes=_last_number(_WEIGHTS, log),
        activation_bytes=_last_number(_ACTIVATIONS, log),
    )


def list_layers(log: str) -> list[ListedLayer]:
    """The layers in the order in which they run."""
    matches = (_LAYER.match(line) for line in log.splitlines())
    return [
        ListedLayer(
            match["name"],
            match["kind"],
            _tensors(match["constants"] or ""),
            _tensors(match["outputs"]),
        )
        for match in matches
        if match
    ]


def kernels_per_step(kernels: Sequence[ListedLayer], n_layers: int) -> float | None:
    """Kernels per time step of one biLM layer, both directions together.

    The compiler unrolls the loop over time, so that the same recurrent weight appears once per
    step. The kernels from one appearance to the next are one step of the chain with this weight.
    The directions may be in one chain or in two. Copies of the state at the end of a round of
    unrolled steps are not counted.
    """
    chains: list[list[int]] = []
    for positions in _repeated_weights(kernels):
        if not any(_alternate(chain, positions) for chain in chains):
            chains.append(positions)
    if not chains:
        return None
    return sum(mode(later - first for first, later in pairwise(c)) for c in chains) / n_layers


def _repeated_weights(kernels: Sequence[ListedLayer]) -> list[list[int]]:
    """The positions in the list of every weight that is used more than once."""
    uses: defaultdict[str, list[int]] = defaultdict(list)
    for position, kernel in enumerate(kernels):
        for weight in kernel.weights:
            uses[weight.name].append(position)
    return [positions for positions in uses.values() if len(positions) > 1]


def _alternate(chain: Sequence[int], positions: Sequence[int]) -> bool:
    """Whether each is used between two uses of the other, in the middle of the unrolled loop."""
    middle = (min(len(chain), len(positions)) - 1) // 2
    one, other = chain[middle : middle + 2], positions[middle : middle + 2]
    return one[0] < other[0] < one[1] or other[0] < one[0] < other[1]


def count_replicated_weights(layers: Iterable[ListedLayer]) -> int:
    """The number of outputs that end in the two sizes of a weight: copies of it per time step."""
    layers = list(layers)
    shapes = {weight.dims[-2:] for layer in layers for weight in layer.weights}
    outputs = [output for layer in layers for output in layer.outputs if output.is_matrix]
    return sum(output.dims[-2:] in shapes for output in outputs)


def _tensors(text: str) -> tuple[ListedTensor, ...]:
    return tuple(
        ListedTensor(name.strip(), tuple(int(size) for size in sizes.split(",") if size), dtype)
        for name, sizes, dtype in _TENSOR.findall(text)
    )


def _last_number(pattern: re.Pattern[str], log: str) -> int:
    found = pattern.findall(log)
    return int(found[-1]) if found else 0
