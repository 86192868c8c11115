"""F1 to F4: the backend in use answers, reports its name, and falls back without memory.

The causes of F1 and F2 that need a fake GPU are in tests/runtime/backends.
"""

from __future__ import annotations

import warnings

import numpy as np
import onnxruntime
import pytest

from elmo_runtime.backends import chain as selection
from elmo_runtime.backends.chain import CANDIDATES, Candidate
from elmo_runtime.embedder import Embedder
from elmo_runtime.errors import (
    BackendError,
    BackendFallbackWarning,
    BackendUnavailableError,
    DeviceMemoryError,
    EngineError,
    EngineMismatchError,
    VerificationError,
)
from guarantee_kit.backends import Watched

SENTENCES = [f"a sentence of {'so ' * (number % 5)}many words {number}" for number in range(40)]
CAUSES = {
    "TensorRT is missing": BackendUnavailableError("tensorrt cannot be imported", hint="install"),
    "no driver": BackendUnavailableError("cudaErrorInsufficientDriver", hint="install a driver"),
    "no GPU": BackendUnavailableError("CUDA shows no GPU", hint="use another machine"),
    "another version": EngineMismatchError("built for 11.3, here is 11.4", hint="build it again"),
    "another GPU": EngineMismatchError("built for sm90, here is sm86", hint="build it again"),
    "a truncated plan": EngineError("the plan is truncated", hint="build it again"),
    "an engine of unknown origin": EngineError("not built here", hint="build it here"),
    "a failing start": BackendError("CUDA error 700", hint="look at dmesg"),
    "no memory at the start": DeviceMemoryError("the GPU is full", hint="free it"),
}


def failing(name: str, error: Exception) -> Candidate:
    def open_it(bundle, precision, options):
        raise error

    return Candidate(name, lambda bundle: True, open_it)


def warnings_of(load) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load()
    return [str(w.message) for w in caught if w.category is BackendFallbackWarning]


def badly_reported(bundle, monkeypatch) -> list[str]:
    """The causes without exactly one warning that names the reason, the fix and the backend."""
    bad = []
    for cause, error in CAUSES.items():
        for failures in (["tensorrt"], ["tensorrt", "onnxruntime-cuda"]):
            chain = (*(failing(name, error) for name in failures), CANDIDATES[-1])
            monkeypatch.setattr(selection, "CANDIDATES", chain)
            used = []

            def load(used=used):
                with Embedder.load(bundle, self_check=False) as elmo:
                    used.append(elmo.backend)

            messages = warnings_of(load)
            complete = (
                len(messages) == 1 and error.what in messages[0] and error.hint in messages[0]
            )
            if not (complete and used == ["onnxruntime-cpu"] and used[0] in messages[0]):
                bad.append(f"{cause}: {messages}")
    return bad


def test_f1_every_cause_gives_one_warning_and_the_next_backend(bundle, monkeypatch, kept):
    assert badly_reported(bundle, monkeypatch) == []
    kept("F1", f"{2 * len(CAUSES)} fake causes, one warning each")


def test_f1_control_a_silent_fallback(bundle, monkeypatch, caught):
    monkeypatch.setattr(selection.BackendChain, "_warn", lambda *arguments: None)
    bad = badly_reported(bundle, monkeypatch)
    assert len(bad) == 2 * len(CAUSES)
    caught("F1", bad[0])


def degraded(bundle, monkeypatch) -> list[str]:
    """The causes that a backend requested by name hid."""
    silent = []
    for cause, error in CAUSES.items():
        chain = (failing("tensorrt", error), CANDIDATES[-1])
        monkeypatch.setattr(selection, "CANDIDATES", chain)
        try:
            Embedder.load(bundle, backend="tensorrt").close()
            silent.append(cause)
        except (BackendUnavailableError, EngineError) as raised:
            assert raised.hint
    return silent


def test_f2_a_named_backend_never_degrades(bundle, monkeypatch, kept):
    assert degraded(bundle, monkeypatch) == []
    kept("F2", f"{len(CAUSES)} fake causes, all raised")


def test_f2_control_a_name_that_is_only_a_preference(bundle, monkeypatch, caught):
    def any_will_do(chain):
        return chain._open_checked(CANDIDATES[-1])

    monkeypatch.setattr(selection.BackendChain, "_open_wanted", any_will_do)
    silent = degraded(bundle, monkeypatch)
    assert len(silent) == len(CAUSES)
    caught("F2", f"answered despite: {', '.join(silent)}")


def false_claims_accepted(bundle, monkeypatch) -> list[str]:
    """The backends that accept a CPU session as CUDA."""
    accepted = []
    with monkeypatch.context() as patch:
        patch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
        for backend in ("onnxruntime-cuda", "auto"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # ONNX Runtime and the embedder both warn
                try:
                    with Embedder.load(bundle, backend=backend, self_check=False) as elmo:
                        if elmo.backend == "onnxruntime-cuda":
                            accepted.append(backend)
                except BackendUnavailableError:
                    pass
    return accepted


def test_f3_the_provider_is_read_from_the_session_and_stdout_stays_empty(
    bundle, monkeypatch, capfd, kept
):
    assert false_claims_accepted(bundle, monkeypatch) == []
    with Embedder.load(bundle) as elmo:
        assert elmo.backend == "onnxruntime-cpu"
        elmo.embed(SENTENCES)
    assert capfd.readouterr().out == ""
    kept("F3", "a falsely claimed CUDA provider is detected, by name and by auto")


def test_f3_control_trusting_the_list_of_providers(bundle, monkeypatch, caught):
    class FalseSession:
        def __init__(self, session):
            self._session = session

        def __getattr__(self, name):
            return getattr(self._session, name)

        def get_providers(self):
            return ["CUDAExecutionProvider"]

    real = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda path, settings, *rest, **options: FalseSession(real(path, settings)),
    )
    monkeypatch.setattr(
        "elmo_runtime.backends.onnxruntime.backend._check_placement", lambda *rest: None
    )
    accepted = false_claims_accepted(bundle, monkeypatch)
    assert accepted == ["onnxruntime-cuda", "auto"]
    caught("F3", f"the CPU was accepted as CUDA by {accepted}")


class Memory:
    """A device that holds at most `rows` sentences, from call `since` on."""

    def __init__(self, *, rows: int, since: int) -> None:
        self.rows, self.since = rows, since
        self.calls = 0

    def __call__(self, inputs) -> None:
        self.calls += 1
        if self.calls >= self.since and len(inputs.lengths) > self.rows:
            raise DeviceMemoryError("out of device memory")


def embed_on(device, bundle, monkeypatch):
    """Vectors, warnings and the final backend, with this device as the first choice."""
    chain = (Candidate("tensorrt", lambda bundle: True, lambda *wishes: device), CANDIDATES[-1])
    monkeypatch.setattr(selection, "CANDIDATES", chain)
    with Embedder.load(bundle, self_check=False, token_budget=70) as elmo:
        answers = []
        messages = warnings_of(lambda: answers.append(elmo.embed(SENTENCES)["elmo"]))
        return answers[0], messages, elmo.backend


def lost_requests(bundle, expected, monkeypatch) -> list[str]:
    """The devices on which a request failed, changed its vectors or gave wrong warnings."""
    lost = []
    for rows in (0, 1, 2, 4):
        for since in range(1, 6):
            device = Watched(bundle, name="tensorrt", before=Memory(rows=rows, since=since))
            try:
                found, messages, used = embed_on(device, bundle, monkeypatch)
            except DeviceMemoryError as error:
                lost.append(f"{rows} rows since call {since}: {error}")
                continue
            wanted = (0, "tensorrt") if rows else (1, "onnxruntime-cpu")
            same = all(map(np.array_equal, found, expected))
            if not same or (len(messages), used) != wanted or device.closed != 1:
                lost.append(f"{rows} rows since call {since}: {messages}, {used}")
    return lost


@pytest.fixture
def expected(embedder):
    return embedder.embed(SENTENCES)["elmo"]


class WrongGpu(Watched):
    """A GPU that computes wrong layers."""

    def run_bilm(self, inputs, outputs, *, half=False):
        return {k: v * 2 for k, v in super().run_bilm(inputs, outputs, half=half).items()}


@pytest.fixture
def wrong_gpu(bundle):
    return WrongGpu(bundle, name="wrong", before=lambda inputs: None)


def test_f4_without_memory_the_batch_is_halved_and_then_the_backend_changes(
    bundle, expected, monkeypatch, kept
):
    assert lost_requests(bundle, expected, monkeypatch) == []
    kept("F4", "20 fake devices that run out at the n-th call, the same bits each time")


def test_f4_control_an_error_that_is_not_caught(bundle, expected, monkeypatch, caught):
    monkeypatch.setattr("elmo_runtime.inference.pipeline.DeviceMemoryError", ZeroDivisionError)
    lost = lost_requests(bundle, expected, monkeypatch)
    assert len(lost) == 20
    caught("F4", lost[0])


@pytest.mark.parametrize("first", ["onnxruntime-cuda", "tensorrt"])
def test_a_wrong_gpu_gives_right_vectors_and_one_warning(
    first, bundle, expected, monkeypatch, wrong_gpu
):
    """Loading raised an error, although the CPU could answer."""
    chain = (Candidate(first, lambda bundle: True, lambda *wishes: wrong_gpu), CANDIDATES[-1])
    monkeypatch.setattr(selection, "CANDIDATES", chain)
    with pytest.warns(BackendFallbackWarning, match="golden sentences") as messages:
        elmo = Embedder.load(bundle)
    with elmo:
        assert all(map(np.array_equal, elmo.embed(SENTENCES)["elmo"], expected))
    assert (len(messages), elmo.backend, wrong_gpu.closed) == (1, "onnxruntime-cpu", 1)


def test_a_wrong_gpu_that_is_requested_by_name_raises(bundle, monkeypatch, wrong_gpu):
    chain = (Candidate("tensorrt", lambda bundle: True, lambda *wishes: wrong_gpu), CANDIDATES[-1])
    monkeypatch.setattr(selection, "CANDIDATES", chain)
    with pytest.raises(VerificationError, match="golden sentences"):
        Embedder.load(bundle, backend="tensorrt")
    assert wrong_gpu.closed == 1


@pytest.mark.parametrize("wrong", [False, True])
def test_a_successor_is_checked_before_it_answers(wrong, bundle, monkeypatch, wrong_gpu):
    """A backend that failed its check stayed open, and its error reached the caller."""
    memory = Memory(rows=1000, since=1)
    best = Watched(bundle, name="tensorrt", before=memory)
    chain = tuple(
        Candidate(name, lambda bundle: True, lambda *wishes, backend=backend: backend)
        for name, backend in {"tensorrt": best, "onnxruntime-cuda": wrong_gpu}.items()
    )
    chain = (*chain, CANDIDATES[-1]) if not wrong else chain
    monkeypatch.setattr(selection, "CANDIDATES", chain)
    with Embedder.load(bundle) as elmo:
        memory.rows = 0
        if wrong:  # no correct backend remains
            with pytest.raises(DeviceMemoryError):
                elmo.embed(SENTENCES[:1])
        else:
            with pytest.warns(BackendFallbackWarning, match="onnxruntime-cpu"):
                elmo.embed(SENTENCES[:1])
            assert elmo.backend == "onnxruntime-cpu"
    assert (best.closed, wrong_gpu.closed) == (1, 1)
