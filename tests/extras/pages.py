"""The code blocks of the README and the docs, and the extra that each one needs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

# Name of an environment -> its extras.
EXTRAS = {
    "base": frozenset[str](),
    "cpu": frozenset({"cpu"}),
    "parquet": frozenset({"cpu", "parquet"}),
    "export": frozenset({"cpu", "export"}),
    "train": frozenset({"cpu", "export", "train"}),
    "tensorrt-rtx": frozenset({"tensorrt-rtx"}),
}

# Pattern in a block -> the reason not to run it. The first match counts.
NOT_RUN = {
    r"^make |^git clone|benchmarks/|^mkdocs|^pytest": "it needs a clone",
    r"elmo-deploy\[gpu|--compiler tensorrt\b": "it needs a GPU",
    r"^(?:import|from) (?:ray|pyspark)\b|sentences\.mapInArrow": "it needs a cluster",
    r"\btorchrun\b": "tests/training/test_distributed.py runs several processes",
    r"^docker ": "it needs Docker",
    r"https://host/": "it needs a server with the weights",
}

# Pattern in a block -> its environment, if no `pip install` names the extras.
NEEDS = {
    r"elmo-deploy (?:train|evaluate)\b": "train",
    r"elmo-deploy (?:export|verify)\b|elmo-deploy import model\.tar\.gz": "export",
    r"^import torch\b|elmo_deploy import .*\b(?:Elmo|export|verify)\b": "export",
    r"integrations\.allennlp\b": "export",
    r"elmo-deploy embed .* -o [\w-]+(?: |$)|\bpyarrow\b|\.parquet\b": "parquet",
}


@dataclass(frozen=True)
class Block:
    """A fenced block: its language ("sh" or "python") and its text."""

    language: str
    text: str

    @property
    def why_not_run(self) -> str | None:
        """The reason, or None if it is run."""
        reasons = (why for rule, why in NOT_RUN.items() if re.search(rule, self.text, re.M))
        return next(reasons, None)

    @property
    def environment(self) -> str:
        """The name of the environment that runs it. KeyError: no environment has its extras."""
        if installed := re.search(r"pip install .*?elmo-deploy\[([\w,-]+)\]", self.text):
            names = {extras: name for name, extras in EXTRAS.items()}
            return names[frozenset(installed[1].split(","))]
        needed = (name for rule, name in NEEDS.items() if re.search(rule, self.text, re.M))
        return next(needed, "cpu")


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page with commands or Python code, in order."""
    for language, text in re.findall(
        r"^```(sh|python)\n(.*?)^```", page.read_text("utf-8"), re.M | re.S
    ):
        yield Block(language, text)
