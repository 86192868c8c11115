"""What a tagger without ELMo reaches: the controls of a probe, from words and characters alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache

import numpy as np
from sklearn.feature_extraction import FeatureHasher
from sklearn.linear_model import SGDClassifier
from treebank import Treebank, tags_of

LONGEST_GRAM = 4
EPOCHS = 8
Features = Callable[[Sequence[str], int], list[str]]


def controls(treebank: Treebank) -> dict[str, float]:
    """Test accuracy in percent of each control."""
    accuracies = {"most frequent tag of the word": most_frequent_tag(treebank)}
    for name, features in FEATURES.items():
        accuracies[name] = linear(treebank, features)
        print(name, accuracies[name], flush=True)
    return accuracies


def most_frequent_tag(treebank: Treebank) -> float:
    """Tag each test word as it was tagged most often in train, and unknown words as nouns."""
    counts: dict[str, Counter[str]] = {}
    for words, tags in treebank["train"]:
        for word, tag in zip(words, tags, strict=True):
            counts.setdefault(word, Counter())[tag] += 1
    usual = {word: tally.most_common(1)[0][0] for word, tally in counts.items()}
    pairs = [pair for words, tags in treebank["test"] for pair in zip(words, tags, strict=True)]
    return round(100 * sum(usual.get(word, "NOUN") == tag for word, tag in pairs) / len(pairs), 2)


def linear(treebank: Treebank, features: Features) -> float:
    """Logistic regression on sparse features, trained on train and scored on test.

    Each tag has its own regression against the others, fitted by averaged stochastic gradients.
    """
    hasher = FeatureHasher(2**20, input_type="string", dtype=np.float32)
    rows = {
        part: hasher.transform(_features(treebank, part, features)) for part in ("train", "test")
    }
    model = SGDClassifier(
        loss="log_loss", alpha=1e-6, max_iter=EPOCHS, tol=None, average=True, random_state=0
    )
    model.fit(rows["train"], tags_of(treebank["train"]))
    return round(100 * model.score(rows["test"], tags_of(treebank["test"])), 2)


def _features(treebank: Treebank, part: str, features: Features) -> Iterator[list[str]]:
    for words, _ in treebank[part]:
        for place in range(len(words)):
            yield features(words, place)


def neighbor(words: Sequence[str], place: int) -> str:
    """The word at a place, or a mark past either end of the sentence."""
    return words[place] if 0 <= place < len(words) else "<end>"


def two_neighbors(words: Sequence[str], place: int) -> list[str]:
    """The words just before and after, without the word itself."""
    return [f"-1 {neighbor(words, place - 1)}", f"+1 {neighbor(words, place + 1)}"]


def word_and_neighbors(words: Sequence[str], place: int) -> list[str]:
    """The word and its two neighbors, one-hot."""
    return [f"0 {words[place]}", *two_neighbors(words, place)]


def word_and_bag(words: Sequence[str], place: int) -> list[str]:
    """The word, and all words of its sentence without their order."""
    return [f"0 {words[place]}", *(f"bag {word}" for word in set(words))]


def character_grams(words: Sequence[str], place: int) -> list[str]:
    """Character n-grams of the word and of its two neighbors."""
    return [
        f"{offset} {gram}"
        for offset in (-1, 0, 1)
        for gram in _grams(neighbor(words, place + offset))
    ]


@cache
def _grams(word: str) -> tuple[str, ...]:
    marked = f"^{word}$"
    sizes = range(1, LONGEST_GRAM + 1)
    grams = {marked[i : i + n] for n in sizes for i in range(len(marked) - n + 1)}
    return (marked, *sorted(grams))


FEATURES: dict[str, Features] = {
    "two neighboring words, one-hot": two_neighbors,
    "word and two neighboring words, one-hot": word_and_neighbors,
    "word and bag of words of the sentence": word_and_bag,
    "character n-grams of the word and its neighbors": character_grams,
}
