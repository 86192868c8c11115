"""All steps on one screen: a trained ELMo -> bundle -> vectors -> a picture of word senses.

    make demo

It uses the model in models/, or trains a small one on Python's documentation, which every Python
installation contains. All files go to out/demo/.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from pathlib import Path

from picture import draw
from python_docs import write_corpus
from sense_controls import controls
from senses import Example, Vectors, nearest_neighbors, read_examples, vectors_of_words

from elmo_deploy import Elmo

HERE = Path(__file__).parent
OUT = Path("out/demo")
COMMAND = Path(sysconfig.get_path("scripts")) / "elmo-deploy"


def main() -> None:
    began = time.monotonic()
    OUT.mkdir(parents=True, exist_ok=True)
    examples = read_examples(HERE / "sentences.tsv")
    checkpoint, origin = shipped_model() or (train_a_small_one(), "trained on Python's own manual")

    title(f"Export the model ({origin}) to ONNX and compare every output with the reference")
    bundle = OUT / "bundle"
    elmo_deploy("export", checkpoint, "-o", bundle)

    title("Embed the example sentences")
    text, embedded = OUT / "sentences.txt", OUT / "vectors.safetensors"
    text.write_text("".join(" ".join(e.tokens) + "\n" for e in examples), "utf-8")
    elmo_deploy("embed", bundle, text, "-o", embedded, "--outputs", "elmo")

    title("Which sentences use a word in the same sense?")
    vectors = vectors_of_words(examples, embedded)
    table = f"{neighbor_table(examples, vectors)}\n{control_lines(examples, checkpoint)}"
    (OUT / "neighbors.txt").write_text(table, "utf-8")
    print(table)
    draw(
        examples,
        vectors,
        OUT / "senses.png",
        title="One word, one spelling, many vectors",
        subtitle="Each dot is the word in one sentence, placed by nothing but its ELMo vector; the"
        f" color is the sense that a person assigned. Model: {origin}.",
    )
    title(f"Done in {time.monotonic() - began:.0f} seconds. Results:")
    for path in (OUT / "senses.png", OUT / "neighbors.txt", embedded, bundle):
        print(f"  {path}")


def shipped_model() -> tuple[Path, str] | None:
    """Return the checkpoint in models/ and its name, if there is one."""
    for config in sorted((HERE.parent / "models").glob("*/config.json")):
        return config.parent, f"models/{config.parent.name}"
    return None


def train_a_small_one() -> Path:
    """Train a small ELMo in a few minutes on two cores, or return the one of an earlier call."""
    run = OUT / "training"
    checkpoint = run / "checkpoint"
    if checkpoint.exists():
        return checkpoint
    title("Train a small ELMo on the text of Python's own documentation")
    text, vocabulary = OUT / "python-docs.txt", OUT / "vocab.txt"
    write_corpus(text)
    elmo_deploy("vocabulary", text, "-o", vocabulary, "--min-count", 2)
    options = HERE / "small.json"
    words = ["--vocab", vocabulary, "--options", options, "-o", run]
    elmo_deploy("train", "--text", text, "--log-every", 50, *words)
    return checkpoint


def neighbor_table(examples: Sequence[Example], vectors: Vectors) -> str:
    """Two lines per sentence: the sentence and the one in which its word is most similar."""
    nearest = nearest_neighbors(list(examples), vectors)
    lines = []
    for example, (index, cosine) in zip(examples, nearest, strict=True):
        other = examples[index]
        mark = " " if other.sense == example.sense else "x"
        lines.append(f"{mark} {example.word} ({example.sense:8}) {' '.join(example.tokens)}")
        lines.append(f"      {cosine:5.2f} ({other.sense:8}) {' '.join(other.tokens)}")
    right = sum(examples[i].sense == e.sense for e, (i, _) in zip(examples, nearest, strict=True))
    return "\n".join([*lines, f"{right} of {len(examples)} nearest neighbors have the same sense"])


def control_lines(examples: Sequence[Example], checkpoint: Path) -> str:
    """One line per control: the same count without a trained ELMo."""
    counts = controls(examples, Elmo.from_checkpoint(checkpoint))
    return "\n".join(f"{count:5.1f} of {len(examples)}: {name}" for name, count in counts.items())


def title(text: str) -> None:
    print(f"\n== {text}", flush=True)


def elmo_deploy(*words: object) -> None:
    """Print the command as a user would type it, and run it."""
    arguments = [str(word) for word in words]
    print(f"$ elmo-deploy {' '.join(arguments)}", flush=True)
    if code := subprocess.run([COMMAND, *arguments]).returncode:
        sys.exit(code)


if __name__ == "__main__":
    main()
