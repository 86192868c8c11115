"""A small English ELMo that comes with the package, ready to embed text on a CPU.

It is the int8 bundle of `models/english-small` in the repository. `make demo-bundle` exports it.
"""

from __future__ import annotations

from pathlib import Path

ENGLISH_SMALL = "english-small"


def demo_bundle() -> Path:
    """The directory of the bundle that comes with the package, for `Embedder.load`.

    The model has 7.1 million weights and vectors of size 256. Use it to try elmo-deploy; for
    applications, import a published ELMo or train one.
    """
    return Path(__file__).parent / ENGLISH_SMALL
