"""Negative control: each line below has an error that mypy and pyright must report."""

from elmo_runtime import Embedder

Embedder.load("bundle", thread=2)
Embedder.load("bundle", cpu=2)
out = Embedder.load("bundle").embed(["a cat"])
print(out.elmos)
print(out.default.shapes)
print(out["elmo:ner"].mean())
