"""Latency and throughput of every system at a published size, with random weights.

    python benchmarks/latency.py --options OPTIONS.json -o benchmarks/results/latency-original.json

Without --text, words and lengths are random. The script prints the ratios and two shares of what
the processor can do, measured in the same run: in full batches, the share of the rate of a large
matrix product that the FP32 system reaches; at one sentence per call, its share of the rate of
memory reads. A share of memory reads above 1 means that the caches served weights more than once.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from elmo_deploy.benchmark.loads import Load, grid_load, ragged_load, sentences_for
from elmo_deploy.benchmark.report.results import Report, describe_ratio, write_json
from elmo_deploy.benchmark.run import Job, Settings, benchmark
from elmo_deploy.benchmark.subject import Subject
from elmo_deploy.benchmark.yardsticks import operations_of, read_bytes_of
from elmo_deploy.model import Elmo
from elmo_deploy.model.reference import reference
from elmo_export import export_bundle
from elmo_runtime import ElmoConfig

SYSTEMS = (
    "torch-lstm",
    "torch-eager",
    "cpu-padded",
    "cpu-packed",
    "cpu-packed-cached",
    "cpu-int8",
    "native-fp32",
    "native-int8",
)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--options", type=Path, required=True, help="the model's options.json")
    arguments.add_argument("--text", type=Path, help="text, one sentence per line")
    arguments.add_argument("--systems", nargs="+", default=SYSTEMS)
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument(
        "--patience", type=float, default=60.0, help="seconds that the run may wait in total"
    )
    arguments.add_argument("-o", "--output", type=Path, required=True)
    options = arguments.parse_args()

    config = ElmoConfig.from_options(json.loads(options.options.read_bytes()))
    loads = loads_of_the_table(options.text)
    with tempfile.TemporaryDirectory() as scratch:
        bundle = export(config, Path(scratch) / "bundle", int8="cpu-int8" in options.systems)
        report = benchmark(
            [Job(name, name, Subject(bundle)) for name in options.systems],
            loads,
            settings=Settings(rounds=options.rounds, patience=options.patience),
            advance=lambda what, done, total: print(f"{done / total:4.0%} {what}", flush=True),
            context={"model": options.options.name, "weights": "random"},
        )
    write_json(report, options.output)
    print_table(report)
    print_shares(report, config, loads)


def loads_of_the_table(text: Path | None) -> list[Load]:
    """One sentence per call, a full batch, and three ragged batches in text order and sorted."""
    sentences = sentences_for(text)
    ragged = [ragged_load(32, sentences, n_calls=3, by_length=sort) for sort in (False, True)]
    return [grid_load(1, 20, sentences, n_calls=4), grid_load(32, 25, sentences), *ragged]


def export(config: ElmoConfig, bundle: Path, *, int8: bool) -> Path:
    """Export a bundle of random weights."""
    checkpoint = Elmo(config).to_checkpoint()
    precisions = ("fp32", "int8") if int8 else ("fp32",)
    export_bundle(checkpoint, bundle, reference=reference(checkpoint), precisions=precisions)
    return bundle


def print_table(report: Report) -> None:
    """Print tokens per second and the ratio to the baseline."""
    for load in report.loads:
        print(load)
        for row in report.rows:
            if row.load == load:
                ratio = describe_ratio(row.ratio)
                print(f"  {row.entry:18} {row.tokens_per_second:8.0f} tokens/s  {ratio}")


def print_shares(report: Report, config: ElmoConfig, loads: list[Load]) -> None:
    """Print the shares of the processor's best rates that the packed FP32 graph reaches."""
    single, full = loads[0], loads[1]
    seconds = {load.name: min(report.row("cpu-packed", load.name).rounds) for load in loads}
    products = operations_of(config, full) / seconds[full.name]
    reads = read_bytes_of(config, single) / seconds[single.name]
    best_products = report.machine["product_flops_per_second"]
    best_reads = report.machine["read_bytes_per_second"]
    print(f"{full.name}: {products / 1e9:.0f} of {best_products / 1e9:.0f} GFLOP/s", end="")
    print(f" = {products / best_products:.0%}")
    print(f"{single.name}: {reads / 1e9:.1f} of {best_reads / 1e9:.1f} GB/s", end="")
    print(f" = {reads / best_reads:.0%}")


if __name__ == "__main__":
    main()
