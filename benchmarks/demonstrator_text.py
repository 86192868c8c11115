"""Public-domain prose -> the shards, held-out text and vocabulary of the demonstrator model.

    pip install spacy
    python benchmarks/demonstrator_text.py TEXT.txt.gz ... -o OUT
    elmo-deploy vocabulary 'OUT/train-*.txt.gz' -o OUT/vocab.txt --max-size 36000

The rule: hard-wrapped lines are joined into paragraphs (a blank line ends one, and so do 200
lines); spaCy's rule-based English tokenizer and sentencizer (no model) cut them into sentences of
words and punctuation; sentences of fewer than 3 or more than 100 tokens and those without a
lower-case letter (headings) are dropped. Every 25th file, in name order, is held out completely.
The training sentences are shuffled with seed 0 and distributed over 20 shards.
"""

from __future__ import annotations

import argparse
import gzip
import random
from collections.abc import Iterable, Iterator
from pathlib import Path

import spacy

HELD_OUT_EVERY, N_SHARDS, SEED = 25, 20, 0


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("texts", nargs="+", type=Path)
    arguments.add_argument("-o", "--output", type=Path, required=True)
    options = arguments.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    english = spacy.blank("en")
    english.add_pipe("sentencizer")

    training: list[str] = []
    with gzip.open(options.output / "heldout.txt.gz", "wt", encoding="utf-8") as held_out:
        for index, path in enumerate(sorted(options.texts, key=lambda path: path.name), 1):
            sentences = list(sentences_of(paragraphs(path), english))
            if index % HELD_OUT_EVERY == 0:
                held_out.writelines(f"{sentence}\n" for sentence in sentences)
            else:
                training += sentences
            print(
                f"{index}/{len(options.texts)} {path.name}: {len(sentences)} sentences", flush=True
            )

    random.Random(SEED).shuffle(training)
    for shard in range(N_SHARDS):
        path = options.output / f"train-{shard:02d}.txt.gz"
        with gzip.open(path, "wt", encoding="utf-8") as stream:
            stream.writelines(f"{sentence}\n" for sentence in training[shard::N_SHARDS])
    tokens = sum(sentence.count(" ") + 1 for sentence in training)
    print(f"{len(training)} training sentences of {tokens} tokens in {options.output}")


def paragraphs(path: Path) -> Iterator[str]:
    """Yield the paragraphs of a gzipped UTF-8 text, each on one line."""
    lines: list[str] = []
    with gzip.open(path, "rt", encoding="utf-8-sig") as stream:
        for line in stream:
            if line.strip():
                lines.append(line.strip().replace("_", ""))  # underscores mark italics
            if lines and (not line.strip() or len(lines) == 200):
                yield " ".join(lines)
                lines = []
    if lines:
        yield " ".join(lines)


def sentences_of(texts: Iterable[str], english: spacy.Language) -> Iterator[str]:
    """Yield one string per sentence, in which single spaces separate the tokens."""
    for document in english.pipe(texts):
        for sentence in document.sents:
            tokens = [token.text for token in sentence if not token.is_space]
            if 3 <= len(tokens) <= 100 and any(c.islower() for t in tokens for c in t):
                yield " ".join(tokens)


if __name__ == "__main__":
    main()
