"""The gain of the word cache, of sorting and of the token budget when a text is streamed.

    python benchmarks/throughput.py BUNDLE --text SENTENCES.txt.gz -o benchmarks/results/stream.json

Every pass starts with an empty cache, and the settings take turns in every round. Every setting
computes each distinct word of a batch once.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from elmo_deploy.benchmark.loads import Load, Sentence, read_sentences
from elmo_deploy.benchmark.machine import describe_machine
from elmo_deploy.benchmark.report.statistics import speed_ratio
from elmo_deploy.benchmark.sampling import take_sample
from elmo_runtime import Embedder
from elmo_runtime.backends.base import Backend
from elmo_runtime.backends.chain import BackendChain
from elmo_runtime.bundle.manifest import Bundle
from elmo_runtime.embedder import CACHE_WORDS
from elmo_runtime.files.atomic import atomic_file


@dataclass(frozen=True)
class Setting:
    """How to stream a text. With `in_order`, batches hold that many sentences in text order."""

    name: str
    cache_words: int = CACHE_WORDS
    token_budget: int | None = None
    in_order: int | None = None


SETTINGS = (
    Setting("as delivered"),
    Setting("no word cache", cache_words=0),
    Setting("not sorted, 32 at a time", in_order=32),
    Setting("one at a time", in_order=1),
    Setting("budget 256", token_budget=256),
    Setting("budget 1024", token_budget=1024),
    Setting("budget 4096", token_budget=4096),
)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("bundle", type=Path)
    arguments.add_argument("--text", type=Path, required=True, help="text, one sentence per line")
    arguments.add_argument("--sentences", type=int, default=1000)
    arguments.add_argument("--precision", default="fp32")
    arguments.add_argument("--rounds", type=int, default=6)
    arguments.add_argument("-o", "--output", type=Path, required=True)
    options = arguments.parse_args()

    bundle = Bundle.open(options.bundle)
    backend = BackendChain(bundle, precision=options.precision).open()
    load = one_call(read_sentences(options.text)[: options.sentences])
    rounds = measure(bundle, backend, load, options.rounds)
    figures = {
        "machine": describe_machine(),
        "backend": backend.name,
        "precision": backend.precision,
        "text": options.text.name,
        "sentences": load.n_sentences,
        "tokens": load.n_tokens,
        "settings": summary(rounds, load),
        "word cache": word_cache(bundle, backend, load),
    }
    with atomic_file(options.output) as scratch:
        scratch.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
    print(json.dumps({key: figures[key] for key in ("settings", "word cache")}, indent=1))


def one_call(sentences: list[Sentence]) -> Load:
    """Return the text as one call."""
    return Load(name="stream", batch=len(sentences), length=None, calls=(tuple(sentences),))


def measure(bundle: Bundle, backend: Backend, load: Load, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of one pass per round for every setting."""
    seconds: dict[str, list[float]] = {setting.name: [] for setting in SETTINGS}
    for round_ in range(rounds):
        shift = round_ % len(SETTINGS)
        for setting in (*SETTINGS[shift:], *SETTINGS[:shift]):
            embedder = open_setting(bundle, backend, setting)

            def stream(
                sentences: tuple[Sentence, ...],
                embedder: Embedder = embedder,
                setting: Setting = setting,
            ) -> None:
                for _ in streamed(embedder, sentences, setting):
                    pass

            sample = take_sample(stream, load, minimum=0.0, patience=0.0)
            seconds[setting.name].append(sample.seconds)
            print(f"round {round_ + 1}: {setting.name}: {sample.seconds:.2f} s", flush=True)
    return seconds


def open_setting(bundle: Bundle, backend: Backend, setting: Setting) -> Embedder:
    """Make an Embedder with an empty cache from the open backend."""
    return Embedder(
        bundle, backend, cache_words=setting.cache_words, token_budget=setting.token_budget
    )


def streamed(
    embedder: Embedder, sentences: tuple[Sentence, ...], setting: Setting
) -> Iterator[object]:
    """Yield the vectors of all sentences in order."""
    if setting.in_order is None:
        yield from embedder.embed_stream(sentences)
        return
    for start in range(0, len(sentences), setting.in_order):
        yield embedder.embed(sentences[start : start + setting.in_order])


def summary(seconds: dict[str, list[float]], load: Load) -> dict[str, object]:
    """Tokens per second of the median round, and the speed relative to the first setting."""
    first = seconds[SETTINGS[0].name]
    figures = {}
    for name, times in seconds.items():
        ratio = speed_ratio(times, first)
        figures[name] = {
            "tokens_per_second": round(load.n_tokens / sorted(times)[len(times) // 2], 1),
            "speed": round(ratio.median, 3),
            "is_a_difference": ratio.is_a_difference,
            "rounds": times,
        }
    return figures


def word_cache(bundle: Bundle, backend: Backend, load: Load) -> dict[str, float]:
    """Count the look-ups of the cache in one pass: one per distinct word of a batch."""
    embedder = open_setting(bundle, backend, SETTINGS[0])
    for _ in embedder.embed_stream(load.calls[0]):
        pass
    stats = embedder.stats()
    asked = stats.word_hits + stats.word_misses
    return {
        "asked": asked,
        "computed": stats.word_misses,
        "hit_rate": round(stats.word_hits / asked, 4),
        "computed_per_token": round(stats.word_misses / load.n_tokens, 4),
    }


if __name__ == "__main__":
    main()
