"""Fuzz bundles with atheris: opening any files gives a Bundle or an ArtifactError.

    python fuzz/fuzz_bundle.py -max_total_time=60      (CI; an hour in the long runs)

The second byte chooses a file of a small bundle, and the bytes after it replace its content. If the
first byte is even, the digest matches again, as a forger would see to it, so that the input reaches
the parsers.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["elmo_runtime"]):
    from elmo_runtime.bundle.manifest import (
        MANIFEST,
        MANIFEST_DIGEST,
        Bundle,
        Graph,
        Manifest,
        Tensor,
        write_manifest,
    )
    from elmo_runtime.config import ElmoConfig
    from elmo_runtime.errors import ArtifactError
    from elmo_runtime.mixes import NamedMix

CONFIG = ElmoConfig(
    projection_dim=2,
    lstm_dim=3,
    n_layers=1,
    use_skip_connections=False,
    char_embedding_dim=2,
    filters=((1, 2),),
    n_highway=0,
)
GRAPH = Graph(
    part="token_encoder",
    form="padded",
    precision="fp32",
    file="graphs/token_encoder.onnx",
    opset=20,
    inputs=(Tensor("char_ids", "int32", ("words", "characters"), "ids"),),
    outputs=(Tensor("word_vectors", "float32", ("words", 2), "vectors"),),
)
FOLDER = Path(tempfile.mkdtemp(prefix="fuzz-bundle-"))


def fresh() -> None:
    """Write a valid bundle. Its only graph is not an ONNX file, but no code here opens graphs."""
    shutil.rmtree(FOLDER)
    (FOLDER / "graphs").mkdir(parents=True)
    (FOLDER / GRAPH.file).write_bytes(b"not read")
    mix = NamedMix(name="ner", weights=(0.0, 1.0), gamma=1.0)
    write_manifest(FOLDER, Manifest(config=CONFIG, mixes=(mix,), graphs=(GRAPH,), provenance={}))


def open_bundle(data: bytes) -> None:
    """Replace one file and open the bundle."""
    if len(data) < 2:
        return
    fresh()
    name = (MANIFEST, MANIFEST_DIGEST, GRAPH.file, MANIFEST)[data[1] % 4]
    (FOLDER / name).write_bytes(data[2:])
    if data[0] % 2 == 0:
        digest = hashlib.sha256((FOLDER / MANIFEST).read_bytes()).hexdigest()
        (FOLDER / MANIFEST_DIGEST).write_text(f"{digest}  {MANIFEST}\n")
    with contextlib.suppress(ArtifactError):
        Bundle.open(FOLDER)


def seeds(corpus: Path) -> None:
    """Write a complete manifest as a start, because random mutations never find its structure."""
    corpus.mkdir(exist_ok=True)
    fresh()
    (corpus / "manifest").write_bytes(b"\0\0" + (FOLDER / MANIFEST).read_bytes())


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as corpus:
        seeds(Path(corpus))
        atheris.Setup([*sys.argv, corpus], open_bundle)
        atheris.Fuzz()
