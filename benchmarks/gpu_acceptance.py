"""Acceptance of ELMo on a GPU: build engines, compare outputs and measure times, in one JSON file.

    python benchmarks/gpu_acceptance.py -o acceptance.json [--bundle BUNDLE]

The script runs on every machine with any of torch, onnxruntime-gpu, tensorrt and tensorrt-rtx, and
lists what cannot run with the reason. docs/guides/engines.md explains each figure.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from elmo_deploy.benchmark.loads import Sentence, drawn_sentences, standard_loads
from elmo_deploy.benchmark.machine import describe_machine
from elmo_deploy.benchmark.report.results import as_mapping
from elmo_deploy.benchmark.run import Job, Settings, benchmark
from elmo_deploy.benchmark.subject import Subject
from elmo_export import build_engine, export_bundle
from elmo_export.checkpoint import Checkpoint
from elmo_export.engines.build import plan_rows
from elmo_runtime.backends.base import Backend, BiLmInputs
from elmo_runtime.backends.chain import BackendChain
from elmo_runtime.backends.tensorrt.cuda import Device
from elmo_runtime.bundle.manifest import Bundle
from elmo_runtime.config import ElmoConfig
from elmo_runtime.embedder import Embedder
from elmo_runtime.errors import ElmoDeployError
from elmo_runtime.files.atomic import atomic_file

PRECISIONS = ("fp16", "fp32")
FLAVOURS = ("tensorrt", "tensorrt-rtx")
BATCHES, LENGTHS = (1, 8, 32, 128, 256), (8, 24, 64)
STEPS = (64, 128)  # padded lengths of two buckets; their times differ by the LSTM steps only
FULL_SIZE = {
    "projection_dim": 512,
    "lstm_dim": 4096,
    "char_embedding_dim": 16,
    "filters": ((1, 32), (2, 32), (3, 64), (4, 128), (5, 256), (6, 512), (7, 1024)),
    "n_highway": 2,
}
SMALL_SIZE = FULL_SIZE | {"projection_dim": 128, "lstm_dim": 1024, "n_highway": 1}
SIZES = {"full": FULL_SIZE, "small": SMALL_SIZE}  # of the published models


@dataclass
class Findings:
    """The results, and the reason for each result that is missing."""

    found: dict[str, Any] = field(default_factory=dict)
    not_run: list[dict[str, str]] = field(default_factory=list)

    def attempt(self, what: str, work: Callable[[], Any]) -> Any | None:
        """Store the result of `work` under this name and return it; None if it fails."""
        print(f"{what} ...", file=sys.stderr, flush=True)
        try:
            self.found[what] = work()
        except (ElmoDeployError, ImportError) as error:
            self.leave_out(what, str(error))
        except Exception as error:  # a failing part must not cost the figures of the others
            traceback.print_exc()
            self.leave_out(what, f"unexpected {type(error).__name__}: {error}")
        return self.found.get(what)

    def leave_out(self, what: str, reason: str) -> None:
        """Record why a figure is missing."""
        self.not_run.append({"what": what, "reason": " ".join(reason.split())})


@dataclass(frozen=True)
class Candidate:
    """A backend in one precision, and its bundle."""

    name: str
    bundle: Path
    backend: str
    precision: str

    def open(self) -> Backend:
        """Open the backend; raise the reason if it cannot run."""
        return BackendChain(Bundle.open(self.bundle), self.backend, self.precision).open()


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parse(arguments)
    findings = Findings()
    with tempfile.TemporaryDirectory(dir=options.work) as scratch:
        work = Path(scratch)
        bundle = options.bundle or random_bundle(work / "bundle", SIZES[options.size])
        candidates = [*build_engines(bundle, work, findings), *onnxruntime_candidates(bundle)]
        findings.attempt("gpu", describe_gpu)
        sentences = drawn_sentences(options.sentences, np.random.default_rng(0))
        for candidate in candidates:
            examine(candidate, bundle, sentences, findings)
        findings.attempt("torch-cuda", lambda: torch_on_cuda(bundle, sentences))
        if options.rounds:
            measure(bundle, candidates, options, findings)
    write(options.out, bundle, options, findings)


def build_engines(bundle: Path, work: Path, findings: Findings) -> Iterator[Candidate]:
    """Build the engines of each compiler in a separate copy of the bundle, to use each of them."""
    for flavour in FLAVOURS:
        copy = Path(shutil.copytree(bundle, work / flavour))
        for precision in PRECISIONS:
            name = f"{flavour}-{precision}"
            yield Candidate(name, copy, "tensorrt", precision)
            findings.attempt(f"build {name}", partial(build, copy, flavour, precision))


def build(bundle: Path, flavour: str, precision: str) -> dict[str, Any]:
    """Build every default plan, as `elmo-deploy build-engine` does for the current GPU."""
    report = build_engine(bundle, compiler=flavour, precision=precision)
    return {"engine": report.folder.name, "plans": list(plan_rows(report))}


def onnxruntime_candidates(bundle: Path) -> Iterator[Candidate]:
    """Yield CUDA in both precisions; the CPU is their reference."""
    for precision in PRECISIONS:
        yield Candidate(f"onnxruntime-cuda-{precision}", bundle, "onnxruntime-cuda", precision)


def describe_gpu() -> dict[str, Any]:
    """Describe the GPU of this run."""
    device = Device.open()
    free, total = device.free_and_total()
    capability = device.compute_capability
    return {"name": device.name, "compute_capability": capability, "free": free, "total": total}


def examine(
    candidate: Candidate, bundle: Path, sentences: Sequence[Sentence], findings: Findings
) -> None:
    """Open a backend and run every check except the comparison of speed."""
    backend = findings.attempt(f"open {candidate.name}", candidate.open)
    if backend is None:
        return
    findings.found[f"open {candidate.name}"] = {"backend": backend.name}
    opened = Bundle.open(candidate.bundle)
    name, config = candidate.name, opened.config
    embedder = Embedder(opened, backend)
    try:
        findings.attempt(f"golden {name}", lambda: golden(embedder))
        findings.attempt(f"parity {name}", lambda: parity(embedder, bundle, sentences))
        findings.attempt(f"invariance {name}", lambda: invariance(embedder, sentences))
        findings.attempt(f"finite {name}", lambda: finite(embedder, config))
        findings.attempt(f"steps {name}", lambda: time_steps(backend, config))
        findings.attempt(f"memory {name}", device_memory)
    finally:
        embedder.close()


def golden(embedder: Embedder) -> dict[str, bool]:
    """Run the check of every load: the golden sentences of the bundle."""
    embedder.check_golden_sentences()
    return {"passed": True}


def parity(embedder: Embedder, bundle: Path, sentences: Sequence[Sentence]) -> dict[str, Any]:
    """Compare with ONNX Runtime on the CPU in fp32, which the export compared with PyTorch."""
    names = ("word_emb", *embedder.config.layer_names, "elmo", "default")
    with Embedder.load(bundle, backend="onnxruntime-cpu", precision="fp32") as reference:
        expected = reference.embed(sentences, outputs=names)
    found = embedder.embed(sentences, outputs=names)
    return {name: differences(rows(found[name]), rows(expected[name])) for name in names}


def invariance(embedder: Embedder, sentences: Sequence[Sentence]) -> dict[str, float]:
    """Compare each sentence on its own with the same sentence in a batch (guarantee D1)."""
    together = rows(embedder.embed(sentences)["elmo"])
    alone = rows([embedder.embed([sentence])["elmo"][0] for sentence in sentences])
    return differences(alone, together)


def finite(embedder: Embedder, config: ElmoConfig) -> dict[str, int]:
    """Count vectors of random character ids that are not finite: none may be (guarantee I6)."""
    generator = np.random.default_rng(1)
    shape = (512, 8, config.max_characters_per_token)
    ids = generator.integers(1, 262, shape, dtype=np.int32)
    vectors = rows(embedder.embed_char_ids(ids)["elmo"])
    return {"vectors": len(vectors), "not_finite": int((~np.isfinite(vectors).all(-1)).sum())}


def time_steps(backend: Backend, config: ElmoConfig) -> dict[str, float]:
    """Microseconds of one time step of one layer, both directions, per batch size."""
    few, many = STEPS
    result = {}
    for batch in BATCHES:
        seconds = [median_seconds(backend, batch_of(config, batch, steps)) for steps in STEPS]
        step = (seconds[1] - seconds[0]) / (many - few) / config.n_layers
        result[str(batch)] = round(step * 1e6, 3)
    return result


def median_seconds(backend: Backend, inputs: BiLmInputs, calls: int = 20) -> float:
    """Time calls with a small output; the first calls, which compile and record, do not count."""
    times = []
    for number in range(calls + 3):
        start = time.perf_counter()
        backend.run_bilm(inputs, ("default",))
        if number >= 3:
            times.append(time.perf_counter() - start)
    return float(np.median(times))


def batch_of(config: ElmoConfig, batch: int, steps: int) -> BiLmInputs:
    """Make sentences that fill their bucket; every call sends the same 1000 word vectors."""
    generator = np.random.default_rng(2)
    states = (config.n_layers, 2, batch)
    zeros = np.zeros(1, np.float32)
    return BiLmInputs(
        word_vectors=generator.normal(size=(1000, config.projection_dim)).astype(np.float32),
        word_index=generator.integers(0, 1000, (batch, steps), dtype=np.int32),
        lengths=np.full(batch, steps - 2, np.int32),
        mix_weights=np.zeros((1, config.n_layers + 1), np.float32),
        gamma=np.ones(1, np.float32),
        initial_h=np.broadcast_to(zeros, (*states, config.projection_dim)),
        initial_c=np.broadcast_to(zeros, (*states, config.lstm_dim)),
    )


def device_memory() -> dict[str, int]:
    """Return the device memory that all processes use after the checks above."""
    free, total = Device.open().free_and_total()
    return {"bytes_in_use": total - free}


def system_of(candidate: Candidate) -> str:
    """Return its name in the table of `elmo-deploy benchmark`."""
    return f"{candidate.backend.removeprefix('onnxruntime-')}-{candidate.precision}"


def torch_on_cuda(bundle: Path, sentences: Sequence[Sentence]) -> dict[str, Any]:
    """The reference model in eager PyTorch on the GPU: p50, p90 and p99 in ms per call."""
    import torch

    from elmo_deploy.model.elmo import Elmo
    from elmo_runtime.characters import char_ids

    if not torch.cuda.is_available():
        raise ImportError("torch sees no CUDA device")
    config = Bundle.open(bundle).config
    model = Elmo(config).eval().cuda()
    words = [token for sentence in sentences for token in sentence]
    times = {}
    for batch in BATCHES:
        for length in LENGTHS:
            tokens = [words[n % len(words)] for n in range(batch * length)]
            ids = char_ids(tokens, max_characters=config.max_characters_per_token)
            array = torch.from_numpy(ids.reshape(batch, length, -1))
            times[f"{batch} x {length}"] = percentiles(partial(torch_call, model, array))
    return times


def torch_call(model: Any, char_ids: Any) -> None:
    """Character ids on the host -> vectors on the host; the copy waits for the GPU."""
    import torch

    with torch.inference_mode():
        model(char_ids.cuda()).elmo[0].cpu()


def percentiles(call: Callable[[], None], calls: int = 20) -> dict[str, float]:
    """Percentiles in milliseconds, after two calls that are not timed."""
    times = []
    for _ in range(calls + 2):
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1e3)
    p50, p90, p99 = np.percentile(times[2:], [50, 90, 99])
    return {"p50": float(p50), "p90": float(p90), "p99": float(p99)}


def measure(
    bundle: Path, candidates: Sequence[Candidate], options: Any, findings: Findings
) -> None:
    """Compare latency and throughput by the code of `elmo-deploy benchmark`."""
    runnable = [each for each in candidates if f"open {each.name}" in findings.found]
    jobs = [Job(each.name, system_of(each), Subject(each.bundle)) for each in runnable]
    if not jobs:
        findings.leave_out("latency", "no GPU backend could be opened")
        return
    settings = Settings(rounds=options.rounds, minimum=options.seconds)
    loads = standard_loads(None, batches=BATCHES, lengths=LENGTHS, ragged=32)
    findings.attempt("latency", lambda: as_mapping(benchmark(jobs, loads, settings=settings)))


def rows(vectors: Any) -> np.ndarray[Any, Any]:
    """Concatenate the vectors of all sentences in double precision."""
    return np.concatenate([np.atleast_2d(each) for each in vectors]).astype(np.float64)


def differences(found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> dict[str, float]:
    """Return the largest difference, the smallest cosine and the number of differing vectors."""
    norms = np.linalg.norm(found, axis=-1) * np.linalg.norm(expected, axis=-1)
    cosines = (found * expected).sum(-1) / np.maximum(norms, 1e-30)
    return {
        "max_abs": float(np.abs(found - expected).max()),
        "min_cosine": float(cosines.min()),
        "vectors": len(found),
        "differing": int((found != expected).any(-1).sum()),
    }


def random_bundle(path: Path, size: dict[str, Any]) -> Path:
    """Export a bundle of random weights in both precisions; times do not depend on the weights."""
    from elmo_deploy.model.elmo import Elmo
    from elmo_deploy.model.reference import reference

    config = ElmoConfig(n_layers=2, use_skip_connections=True, cell_clip=3.0, proj_clip=3.0, **size)
    tensors = {name: value.numpy() for name, value in Elmo(config).state_dict().items()}
    checkpoint = Checkpoint(config=config, tensors=tensors)
    export_bundle(checkpoint, path, reference=reference(checkpoint), precisions=("fp32", "fp16"))
    return path


def write(path: Path, bundle: Path, options: Any, findings: Findings) -> None:
    report = {
        "machine": describe_machine(),
        "bundle": str(options.bundle) if options.bundle else f"random weights, {options.size}",
        "found": findings.found,
        "not_run": findings.not_run,
    }
    with atomic_file(path) as scratch:
        scratch.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    print(f"{path}: {len(findings.found)} findings, {len(findings.not_run)} not run")
    for missing in findings.not_run:
        print(f"  not run: {missing['what']}: {missing['reason']}")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", "-o", type=Path, required=True, help="the JSON file")
    parser.add_argument(
        "--bundle", type=Path, help="bundle with fp32 and fp16 graphs (default: random weights)"
    )
    parser.add_argument("--size", choices=SIZES, default="full", help="size of the random model")
    parser.add_argument(
        "--sentences", type=int, default=200, help="number of sentences for parity and invariance"
    )
    parser.add_argument(
        "--rounds", type=int, default=7, help="rounds of the latency run; 0 skips it"
    )
    parser.add_argument("--seconds", type=float, default=0.25, help="minimum duration of a turn")
    parser.add_argument("--work", type=Path, help="directory for bundles and engines (several GB)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
