"""Bundles for the tests of engines: graphs without the parity check of a real export."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from elmo_export.checkpoint import Checkpoint
from elmo_export.engines.profiles import Range, chosen_profiles, encoder_sizes
from elmo_export.graphs.build import build_bilm, build_token_encoder
from elmo_export.graphs.describe import describe_graph
from elmo_export.graphs.weight_formats import FP32, Fp16Weights
from elmo_runtime.bundle.engines import ENGINE_JSON, Engine, Plan, Sizes
from elmo_runtime.bundle.manifest import ENGINES, Bundle, Graph, Manifest, write_manifest
from elmo_runtime.bundle.trust import record_built_here
from fake_gpu import plan_of


def write_graphs(checkpoint: Checkpoint, folder: Path, *, precision: str) -> Path:
    """A bundle of the two padded graphs that engines are built from."""
    (folder / "graphs").mkdir(parents=True)
    weights = FP32 if precision == "fp32" else Fp16Weights()
    models = {
        "token_encoder": build_token_encoder(checkpoint, weight_format=weights),
        "bilm": build_bilm(checkpoint, form="padded", weight_format=weights),
    }
    graphs = []
    for part, model in models.items():
        graph = describe_graph(model, part=part, form="padded", precision=precision)
        (folder / graph.file).write_bytes(model.SerializeToString(deterministic=True))
        graphs.append(graph)
    manifest = Manifest(
        config=checkpoint.config, mixes=checkpoint.mixes, graphs=tuple(graphs), provenance={}
    )
    write_manifest(folder, manifest)
    return folder


def write_fake_engine(
    bundle: Path,
    *,
    precision: str = "fp32",
    batch: Sequence[Range] = ((1, 2, 8),),
    length: Sequence[Range] = ((8, 8, 8), (16, 16, 16), (3, 16, 64)),
    flavour: str = "tensorrt",
    version: str = "11.4.0",
    compute_capability: str = "8.6",
    trusted: bool = True,
) -> Path:
    """Add an engine that the fake TensorRT opens; return its directory."""
    opened = Bundle.open(bundle)
    encoder, bilm = (
        opened.graph(part, precision, forms=("padded",)) for part in ("token_encoder", "bilm")
    )
    orders = [(encoder, encoder_sizes(opened.config))]
    orders += [(bilm, sizes) for sizes in chosen_profiles(batch, length)]
    contents = {f"plan-{n}.plan": _plan(bundle, *order) for n, order in enumerate(orders)}
    engine = Engine(
        flavour=flavour,
        library_version=version,
        compute_capability=compute_capability,
        precision=precision,
        flags={},
        plans=tuple(
            Plan(
                part=graph.part,
                file=file,
                bytes=len(content),
                sha256=hashlib.sha256(content).hexdigest(),
                graph=graph.file,
                graph_sha256=hashlib.sha256((bundle / graph.file).read_bytes()).hexdigest(),
                sizes=sizes,
                layers={},
            )
            for (file, content), (graph, sizes) in zip(contents.items(), orders, strict=True)
        ),
    )
    folder = bundle / ENGINES / engine.name
    folder.mkdir(parents=True)
    for file, content in contents.items():
        (folder / file).write_bytes(content)
    (folder / ENGINE_JSON).write_text(engine.to_json())
    if trusted:
        record_built_here(hashlib.sha256(engine.to_json().encode()).hexdigest())
    return folder


def _plan(bundle: Path, graph: Graph, sizes: Sizes) -> bytes:
    return plan_of((bundle / graph.file).read_bytes(), dict(sizes))
