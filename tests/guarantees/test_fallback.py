"""F1, F3, F4: the backend in use answers, says who it is, and gives way when memory runs out.

The causes of F1 and F2 that need a fake GPU are in tests/runtime: test_tensorrt_opening,
test_selection and test_onnxruntime.
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
    "another version": EngineMismatchError("built for 11.3, here is 11.4", hint="build it anew"),
    "another GPU": EngineMismatchError("built for sm90, here is sm86", hint="build it anew"),
    "a truncated plan": EngineError("the plan is truncated", hint="build it anew"),
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


def badly_told(bundle, monkeypatch) -> list[str]:
    """The causes after which not exactly one warning names reason, cure and what is used."""
    bad = []
    for cause, error in CAUSES.items():
        for failures in (["tensorrt"], ["tensorrt", "onnxruntime-cuda"]):
            chain = (*(failing(name, error) for name in failures), CANDIDATES[-1])
            monkeypatch.setattr(selection, "CANDIDATES", chain)
            used = []

            def load(used=used):
                with Embedder.load(bundle, self_check=False) as elmo:
                    used.append(elmo.backend)

            told = warnings_of(load)
            whole = len(told) == 1 and error.what in told[0] and error.hint in told[0]
            if not (whole and used == ["onnxruntime-cpu"] and used[0] in told[0]):
                bad.append(f"{cause}: {told}")
    return bad


def test_f1_every_cause_gives_one_warning_and_the_next_backend(bundle, monkeypatch, kept):
    assert badly_told(bundle, monkeypatch) == []
    kept("F1", f"{2 * len(CAUSES)} fake causes, one warning each")


def test_f1_control_a_silent_fallback(bundle, monkeypatch, caught):
    monkeypatch.setattr(selection.BackendChain, "_warn", lambda *told: None)
    bad = badly_told(bundle, monkeypatch)
    assert len(bad) == 2 * len(CAUSES)
    caught("F1", bad[0])


def degraded(bundle, monkeypatch) -> list[str]:
    """The causes that a backend asked for by name swallowed."""
    silent = []
    for cause, error in CAUSES.items():
        chain = (failing("tensorrt", error), CANDIDATES[-1])
        monkeypatch.setattr(selection, "CANDIDATES", chain)
        try:
            Embedder.load(bundle, backend="tensorrt").close()
            silent.append(cause)
        except (BackendUnavailableError, EngineError) as told:
            assert told.hint
    return silent


def test_f2_a_named_backend_never_degrades(bundle, monkeypatch, kept):
    assert degraded(bundle, monkeypatch) == []
    kept("F2", f"{len(CAUSES)} fake causes, all raised")


def test_f2_control_a_name_that_is_taken_for_a_wish(bundle, monkeypatch, caught):
    def any_will_do(chain):
        return chain._open_checked(CANDIDATES[-1])

    monkeypatch.setattr(selection.BackendChain, "_open_wanted", any_will_do)
    silent = degraded(bundle, monkeypatch)
    assert len(silent) == len(CAUSES)
    caught("F2", f"answered in spite of: {', '.join(silent)}")


def lies_believed(bundle, monkeypatch) -> list[str]:
    """The ways to pretend CUDA that an embedder takes for CUDA."""
    believed = []
    with monkeypatch.context() as patch:
        patch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
        for backend in ("onnxruntime-cuda", "auto"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # ONNX Runtime and the embedder both complain
                try:
                    with Embedder.load(bundle, backend=backend, self_check=False) as elmo:
                        if elmo.backend == "onnxruntime-cuda":
                            believed.append(backend)
                except BackendUnavailableError:
                    pass
    return believed


def test_f3_the_provider_is_read_from_the_session_and_stdout_stays_empty(
    bundle, monkeypatch, capfd, kept
):
    assert lies_believed(bundle, monkeypatch) == []
    with Embedder.load(bundle) as elmo:
        assert elmo.backend == "onnxruntime-cpu"
        elmo.embed(SENTENCES)
    assert capfd.readouterr().out == ""
    kept("F3", "a CUDA provider that only claims to be there is found out, by name and by auto")


def test_f3_control_believing_the_list(bundle, monkeypatch, caught):
    class Liar:
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
        lambda path, settings, *rest, **options: Liar(real(path, settings)),
    )
    monkeypatch.setattr(
        "elmo_runtime.backends.onnxruntime.backend._check_placement", lambda *rest: None
    )
    believed = lies_believed(bundle, monkeypatch)
    assert believed == ["onnxruntime-cuda", "auto"]
    caught("F3", f"the CPU was taken for CUDA by {believed}")


class Memory:
    """A device that holds at most `rows` sentences at once, from the n-th call on."""

    def __init__(self, *, rows: int, since: int) -> None:
        self.rows, self.since = rows, since
        self.calls = 0

    def __call__(self, inputs) -> None:
        self.calls += 1
        if self.calls >= self.since and len(inputs.lengths) > self.rows:
            raise DeviceMemoryError("out of device memory")


def embed_on(device, bundle, monkeypatch):
    """Vectors, warnings and the backend in use at the end, when this device is the best."""
    chain = (Candidate("tensorrt", lambda bundle: True, lambda *wishes: device), CANDIDATES[-1])
    monkeypatch.setattr(selection, "CANDIDATES", chain)
    with Embedder.load(bundle, self_check=False, token_budget=70) as elmo:
        answers = []
        told = warnings_of(lambda: answers.append(elmo.embed(SENTENCES)["elmo"]))
        return answers[0], told, elmo.backend


def lost_by_want(bundle, expected, monkeypatch) -> list[str]:
    """The devices on which a request failed, changed its answer or was told wrongly."""
    lost = []
    for rows in (0, 1, 2, 4):
        for since in range(1, 6):
            device = Watched(bundle, name="tensorrt", before=Memory(rows=rows, since=since))
            try:
                found, told, used = embed_on(device, bundle, monkeypatch)
            except DeviceMemoryError as error:
                lost.append(f"{rows} rows since call {since}: {error}")
                continue
            wanted = (0, "tensorrt") if rows else (1, "onnxruntime-cpu")
            same = all(map(np.array_equal, found, expected))
            if not same or (len(told), used) != wanted or device.closed != 1:
                lost.append(f"{rows} rows since call {since}: {told}, {used}")
    return lost


@pytest.fixture
def expected(embedder):
    return embedder.embed(SENTENCES)["elmo"]


class Spoiled(Watched):
    """A GPU that computes wrong layers."""

    def run_bilm(self, inputs, outputs, *, half=False):
        return {k: v * 2 for k, v in super().run_bilm(inputs, outputs, half=half).items()}


@pytest.fixture
def spoiled(bundle):
    return Spoiled(bundle, name="spoiled", before=lambda inputs: None)


def test_f4_want_of_memory_halves_the_batch_and_then_changes_the_backend(
    bundle, expected, monkeypatch, kept
):
    assert lost_by_want(bundle, expected, monkeypatch) == []
    kept("F4", "20 fake devices that run out at the n-th call, the same bits each time")


def test_f4_control_an_error_that_nobody_catches(bundle, expected, monkeypatch, caught):
    monkeypatch.setattr("elmo_runtime.inference.pipeline.DeviceMemoryError", ZeroDivisionError)
    lost = lost_by_want(bundle, expected, monkeypatch)
    assert len(lost) == 20
    caught("F4", lost[0])


@pytest.mark.parametrize("first", ["onnxruntime-cuda", "tensorrt"])
def test_a_wrong_gpu_leaves_the_right_answer_and_one_warning(
    first, bundle, expected, monkeypatch, spoiled
):
    """Loading it raised, though the CPU was there to answer."""
    chain = (Candidate(first, lambda bundle: True, lambda *wishes: spoiled), CANDIDATES[-1])
    monkeypatch.setattr(selection, "CANDIDATES", chain)
    with pytest.warns(BackendFallbackWarning, match="golden sentences") as told:
        elmo = Embedder.load(bundle)
    with elmo:
        assert all(map(np.array_equal, elmo.embed(SENTENCES)["elmo"], expected))
    assert (len(told), elmo.backend, spoiled.closed) == (1, "onnxruntime-cpu", 1)


def test_a_wrong_gpu_asked_for_by_name_raises(bundle, monkeypatch, spoiled):
    chain = (Candidate("tensorrt", lambda bundle: True, lambda *wishes: spoiled), CANDIDATES[-1])
    monkeypatch.setattr(selection, "CANDIDATES", chain)
    with pytest.raises(VerificationError, match="golden sentences"):
        Embedder.load(bundle, backend="tensorrt")
    assert spoiled.closed == 1


@pytest.mark.parametrize("wrong", [False, True])
def test_a_successor_is_checked_before_it_answers(wrong, bundle, monkeypatch, spoiled):
    """One that failed its check stayed open, and its error reached the caller."""
    memory = Memory(rows=1000, since=1)
    best = Watched(bundle, name="tensorrt", before=memory)
    chain = tuple(
        Candidate(name, lambda bundle: True, lambda *wishes, backend=backend: backend)
        for name, backend in {"tensorrt": best, "onnxruntime-cuda": spoiled}.items()
    )
    chain = (*chain, CANDIDATES[-1]) if not wrong else chain
    monkeypatch.setattr(selection, "CANDIDATES", chain)
    with Embedder.load(bundle) as elmo:
        memory.rows = 0
        if wrong:  # nothing right is left
            with pytest.raises(DeviceMemoryError):
                elmo.embed(SENTENCES[:1])
        else:
            with pytest.warns(BackendFallbackWarning, match="onnxruntime-cpu"):
                elmo.embed(SENTENCES[:1])
            assert elmo.backend == "onnxruntime-cpu"
    assert (best.closed, spoiled.closed) == (1, 1)
