"""Embed a text with Ray Data on two cores, and compare every vector with the serial result.

    pip install "elmo-deploy[cpu,ray]"
    python examples/ray_data.py BUNDLE TEXT OUT

TEXT has one sentence per line. OUT becomes a directory of Parquet files: text, default.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.dataset
import ray

from elmo_deploy.integrations.ray_data import EmbedText
from elmo_runtime import CpuOptions, Embedder

CORES = 2
CPU = CpuOptions(threads=1)


def main(bundle: Path, text: Path, out: Path) -> None:
    """Embed with Ray and without it, and compare."""
    ray.init(num_cpus=CORES, include_dashboard=False, log_to_driver=False)
    began = time.monotonic()
    sentences = ray.data.read_text(str(text))
    # The only actor holds one of the two cores; the other core reads and writes. With an actor on
    # each core, no task could read and Ray Data would wait forever.
    vectors = sentences.map_batches(
        EmbedText,
        fn_constructor_kwargs={"bundle": bundle, "cpu": CPU, "backend": "onnxruntime-cpu"},
        batch_format="pyarrow",
        batch_size=256,
        compute=ray.data.ActorPoolStrategy(size=CORES - 1),
        num_cpus=1,
    )
    vectors.write_parquet(str(out))
    with_ray = time.monotonic() - began
    ray.shutdown()
    found = pyarrow.dataset.dataset(out).to_table().to_pydict()
    began = time.monotonic()
    with Embedder.load(bundle, backend="onnxruntime-cpu", cpu=CPU) as elmo:
        expected = elmo.embed([line.split() for line in found["text"]], outputs=["default"])[
            "default"
        ]
    serial = time.monotonic() - began
    same = np.array_equal(np.array(found["default"], np.float32), expected)
    lines = text.read_text("utf-8").split("\n")
    complete = sorted(found["text"]) == sorted(line for line in lines if line)
    print(f"{len(expected)} sentences, each present once: {complete}, bit-identical: {same}")
    print(f"Ray {with_ray:.1f} s including the start of its processes; serial {serial:.1f} s")
    sys.exit(0 if same and complete else 1)


if __name__ == "__main__":
    main(*(Path(argument).resolve() for argument in sys.argv[1:4]))
