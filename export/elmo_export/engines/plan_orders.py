"""The plans that an engine of a bundle needs: one graph and one profile each."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from elmo_export.engines.layer_report import report_layers
from elmo_export.engines.profiles import encoder_sizes
from elmo_export.engines.tensorrt import BuiltPlan
from elmo_runtime.bundle.engines import Plan, PlanSpec, Sizes
from elmo_runtime.bundle.manifest import Bundle, Graph
from elmo_runtime.errors import EngineError

STATES = ("final_h", "final_c")  # outputs that stay float32 in every engine


@dataclass(frozen=True)
class PlanOrder:
    """A plan to build."""

    graph: Graph
    spec: PlanSpec
    n_layers: int

    @property
    def name(self) -> str:
        """bilm-32 for an exact length, bilm-3-1024 for a range, token_encoder."""
        low, _, high = self._lengths
        lengths = [low] if low == high else [low, high]
        return "-".join([self.graph.part, *(str(number) for number in lengths if number)])

    @property
    def file(self) -> str:
        """The name of its file in the directory of the engine."""
        return f"{self.name}.plan"

    @property
    def capturable(self) -> bool:
        """Whether the number of time steps is a constant."""
        low, _, high = self._lengths
        return low == high

    @property
    def half_outputs(self) -> list[str]:
        """The outputs that exist in float16 as well: all vectors, no states."""
        if self.graph.part != "bilm":
            return []
        return [tensor.name for tensor in self.graph.outputs if tensor.name not in STATES]

    def built(self, built: BuiltPlan) -> Plan:
        """Its entry in engine.json."""
        return Plan(
            part=self.spec.part,
            file=self.file,
            bytes=len(built.plan),
            sha256=hashlib.sha256(built.plan).hexdigest(),
            graph=self.spec.graph,
            graph_sha256=self.spec.graph_sha256,
            sizes=self.spec.sizes,
            layers=report_layers(built.log, n_layers=self.n_layers).to_json(),
        )

    @property
    def _lengths(self) -> tuple[int, int, int]:
        return self.spec.sizes.get("marked_length", (0, 0, 0))


def plan_orders(bundle: Bundle, precision: str, profiles: Sequence[Sizes]) -> list[PlanOrder]:
    """The token encoder, then the biLM once per profile.

    Raises EngineError if the bundle lacks a padded graph of the precision.
    """
    encoder, bilm = (_graph(bundle, part, precision) for part in ("token_encoder", "bilm"))
    orders = [_order(bundle, bilm, sizes) for sizes in profiles]
    return [_order(bundle, encoder, encoder_sizes(bundle.config)), *orders]


def _order(bundle: Bundle, graph: Graph, sizes: Sizes) -> PlanOrder:
    digest = bundle.files[graph.file].sha256
    spec = PlanSpec(part=graph.part, graph=graph.file, graph_sha256=digest, sizes=sizes)
    return PlanOrder(graph, spec, bundle.config.n_layers)


def _graph(bundle: Bundle, part: str, precision: str) -> Graph:
    graph = bundle.graph(part, precision, forms=("padded",))
    if graph is None:
        raise EngineError(
            f"{bundle.path} has no padded {part} graph of precision {precision}",
            hint=f"export the checkpoint with --precision {precision}",
        )
    return graph
