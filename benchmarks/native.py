"""The native backend compared with an older checkout of this project, load by load, in one run.

    git worktree add ../base 70cec0d          (and its operators built, as its README says)
    python benchmarks/native.py --base ../base --options OPTIONS.json -o RESULTS.json

Both sides get the same random weights and the same words, and no word is known before. Systems
take turns within a round, so that a busy machine slows all of them; the ratios of a system are
those of its rounds. Each runs in a process of its own, with one thread per core.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

LOADS = {"1x20": 4, "32x25": 1, "ragged": 1}  # calls in a round
N_WORDS = 20_000  # of the vocabulary that sentences are drawn from, most frequent first


def main() -> None:
    if sys.argv[1:2] == ["worker"]:
        return serve(*sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, required=True, help="the older checkout")
    parser.add_argument("--options", type=Path, required=True, help="the model's options.json")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--isa", nargs="*", default=[], help="more instruction sets of native")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    here = Path(__file__).parents[1]
    with tempfile.TemporaryDirectory() as scratch:
        bundle = f"{scratch}/bundle"  # of the older checkout; both read it
        run(options.base, "bundle", str(options.options), bundle)
        systems = {
            "base fp32": start(options.base, bundle, "onnxruntime-cpu", "fp32"),
            "base int8": start(options.base, bundle, "onnxruntime-cpu", "int8"),
            **{
                f"native {form}{f' {isa}' if isa else ''}": start(
                    here, bundle, "native", form, isa=isa
                )
                for isa in ("", *options.isa)
                for form in ("fp32", "bf16", "int8")
            },
        }
        results = [measure(load, systems, options.rounds) for load in LOADS]
        memory = {name: resident_mb(process) for name, process in systems.items()}
        for process in systems.values():
            process.stdin.close()
            process.wait()
    report = {
        "model": options.options.name,
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg(),
        "rounds": options.rounds,
        "resident_mb": memory,
        "loads": {load: rows for result in results for load, rows in result.items()},
    }
    options.output.write_text(json.dumps(report, indent=1) + "\n", "utf-8")


def measure(load: str, systems: dict[str, Any], rounds: int) -> dict[str, Any]:
    """Tokens per second of each system, and its ratio to both forms of the base."""
    rates: dict[str, list[float]] = {name: [] for name in systems}
    for process in systems.values():
        ask(process, load)  # memory is taken and caches are warm afterwards
    for _ in range(rounds * LOADS[load]):
        for name, process in systems.items():
            rates[name].append(ask(process, load))
    rows = {}
    for name, own in rates.items():
        rows[name] = {"tokens_per_s": round(statistics.median(own))}
        for base in ("base fp32", "base int8"):
            ratios = sorted(a / b for a, b in zip(own, rates[base], strict=True))
            low, middle, high = np.quantile(ratios, [0.1, 0.5, 0.9])
            rows[name][f"to {base}"] = [round(float(x), 2) for x in (middle, low, high)]
        print(f"{load:7} {name:22} {rows[name]}", flush=True)
    return {load: rows}


def ask(process: Any, load: str) -> float:
    process.stdin.write(load + "\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def run(checkout: Path, *arguments: str) -> None:
    subprocess.run(command(*arguments), env=environment(checkout), check=True)


def start(checkout: Path, bundle: str, backend: str, form: str, *, isa: str = "") -> Any:
    return subprocess.Popen(
        command("serve", bundle, backend, form),
        env=environment(checkout) | {"ELMO_DEPLOY_NATIVE_ISA": isa},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def command(*arguments: str) -> list[str]:
    return [sys.executable, str(Path(__file__).resolve()), "worker", *arguments]


def environment(checkout: Path) -> dict[str, str]:
    paths = [checkout / part for part in ("runtime", "export", ".", "tests")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(str(path.resolve()) for path in paths)}


def resident_mb(process: Any) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text("ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) // 1024


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    return next(line.partition(":")[2].strip() for line in lines if "model name" in line)


def serve(task: str, *arguments: str) -> None:
    """In a worker, whose PYTHONPATH is one of the checkouts."""
    if task == "bundle":
        return write_bundle(*arguments)
    elmo = open_embedder(*arguments)
    generator = np.random.default_rng(0)
    for line in sys.stdin:
        calls = sentences_of(line.strip(), generator)
        tokens = sum(len(sentence) for call in calls for sentence in call)
        begin = time.perf_counter()
        for call in calls:
            elmo.embed(call)
        print(tokens / (time.perf_counter() - begin), flush=True)


def sentences_of(load: str, generator: np.random.Generator) -> list[list[list[str]]]:
    """The calls of one measurement; words are drawn by Zipf's law."""
    if load == "1x20":
        lengths = [[20]]
    elif load == "32x25":
        lengths = [[25] * 32]
    else:
        lengths = [list(generator.lognormal(2.8, 0.7, 32).clip(1, 90).astype(int)) for _ in "123"]

    def sentence(length: int) -> list[str]:
        ranks = generator.zipf(1.1, length) % N_WORDS
        return [f"{'etaoinshr'[rank % 9] * (1 + rank % 5)}{rank:x}" for rank in ranks]

    return [[sentence(length) for length in call] for call in lengths]


def write_bundle(options: str, path: str) -> None:
    """Graphs of a random model, which nobody verifies: the parity table is that of other tests."""
    from elmo_export.precision import FP32, Int8

    from elmo_export import package
    from elmo_runtime import ElmoConfig
    from random_models import random_checkpoint

    config = ElmoConfig.from_options(json.loads(Path(options).read_bytes()))
    checkpoint, folder = random_checkpoint(config), Path(path)
    folder.mkdir()
    encoder, padded, packed = ("token_encoder", "padded"), ("bilm", "padded"), ("bilm", "packed")
    graphs = [
        package._write_graph(folder, checkpoint, part, form, precision)
        for precision, parts in ((FP32, (encoder, padded, packed)), (Int8(), (encoder, packed)))
        for part, form in parts
    ]
    manifest = package.Manifest(config=config, graphs=tuple(graphs), provenance={})
    package.write_manifest(folder, manifest)


def open_embedder(bundle: str, backend: str, form: str) -> Any:
    from elmo_runtime import Bundle, Embedder
    from elmo_runtime.backends.base import BackendOptions

    if backend != "native":
        return Embedder.load(
            bundle, backend=backend, precision=form, self_check=False, cache_words=0
        )
    from elmo_runtime.backends.native.backend import NativeBackend, read_tensors

    opened = Bundle.open(Path(bundle))
    tensors = read_tensors(opened.read, opened.manifest)
    native = NativeBackend(opened.config, tensors, form, BackendOptions())
    return Embedder(opened, native, cache_words=0)


if __name__ == "__main__":
    main()
