"""The chain of backends falls back with one warning, or raises for a named one: F1 and F2."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import pytest

from elmo_runtime.backends.chain import CANDIDATES, BackendChain, Candidate
from elmo_runtime.bundle.manifest import Bundle
from elmo_runtime.embedder import Embedder
from elmo_runtime.errors import (
    BackendError,
    BackendFallbackWarning,
    BackendUnavailableError,
    BundleError,
    DeviceMemoryError,
    EngineMismatchError,
    InputError,
    VerificationError,
)
from guarantee_kit.backends import Watched

FAILURES = [
    BackendUnavailableError("the driver is too old", hint="update it"),
    EngineMismatchError("engine was built for sm90, this GPU is sm86", hint="run build-engine"),
    BackendError("CUDA error 35"),
]


@dataclass
class Opened:
    """An open backend, of which only the name and the closing matter here."""

    name: str
    precision: str = "fp32"
    closed: int = 0

    def close(self) -> None:
        self.closed += 1


def works(name: str) -> Candidate:
    return Candidate(name, lambda bundle: True, lambda bundle, precision, options: Opened(name))


def fails(name: str, error: Exception, expected: bool = True) -> Candidate:
    def open_it(bundle, precision, options):
        raise error

    return Candidate(name, lambda bundle: expected, open_it)


@pytest.fixture
def choose(bundle, monkeypatch):
    opened = Bundle.open(bundle)

    def choose(*candidates: Candidate, backend="auto", check=None) -> str:
        monkeypatch.setattr("elmo_runtime.backends.chain.CANDIDATES", candidates)
        return BackendChain(opened, backend, check=check).open().name

    return choose


def test_the_best_backend_opens_without_a_warning(choose):
    assert choose(works("tensorrt"), works("onnxruntime-cpu")) == "tensorrt"


def test_a_backend_that_nobody_expects_is_skipped_without_a_warning(choose):
    absent = fails("tensorrt", BackendUnavailableError("no"), expected=False)
    assert choose(absent, works("onnxruntime-cpu")) == "onnxruntime-cpu"


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
def test_a_better_backend_that_fails_gives_one_warning_with_reason_and_fix(choose, error):
    with pytest.warns(BackendFallbackWarning) as caught:
        used = choose(fails("tensorrt", error), works("onnxruntime-cpu"))
    assert used == "onnxruntime-cpu"
    [warning] = caught
    assert str(warning.message) == f"Falling back to onnxruntime-cpu. tensorrt failed: {error}"


def test_two_failures_give_one_warning(choose):
    with pytest.warns(BackendFallbackWarning, match=r"too old.*CUDA error 35") as caught:
        choose(fails("tensorrt", FAILURES[0]), fails("cuda", FAILURES[2]), works("cpu"))
    assert len(caught) == 1


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
def test_a_named_backend_raises_and_never_degrades(choose, error):
    with pytest.raises((BackendUnavailableError, EngineMismatchError), match=error.what):
        choose(fails("tensorrt", error), works("onnxruntime-cpu"), backend="tensorrt")


def test_when_no_backend_runs_every_reason_is_reported(choose):
    with pytest.raises(BackendUnavailableError, match=r"too old.*CUDA error 35"):
        choose(fails("tensorrt", FAILURES[0]), fails("cuda", FAILURES[2]))


class Check:
    """The self-check, which these backends fail; remembers the backends that it saw."""

    def __init__(self, *wrong: str) -> None:
        self.wrong, self.seen = wrong, []

    def __call__(self, backend: Opened) -> None:
        self.seen.append(backend)
        if backend.name in self.wrong:
            raise VerificationError(f"{backend.name} is off by 0.5", hint="use another")


def test_a_backend_with_wrong_values_is_replaced_with_one_warning_and_closed(choose):
    """The check came after the choice, so that one bad GPU left "auto" without an answer."""
    check = Check("tensorrt")
    with pytest.warns(BackendFallbackWarning, match=r"tensorrt is off by 0.5; use") as caught:
        assert choose(works("tensorrt"), works("onnxruntime-cpu"), check=check) == "onnxruntime-cpu"
    assert len(caught) == 1
    assert [backend.closed for backend in check.seen] == [1, 0]


def test_a_named_backend_that_computes_wrongly_raises_and_is_closed(choose):
    check = Check("tensorrt")
    with pytest.raises(VerificationError, match=r"off by 0\.5"):
        choose(works("tensorrt"), works("onnxruntime-cpu"), backend="tensorrt", check=check)
    assert [backend.closed for backend in check.seen] == [1]


def test_when_every_backend_computes_wrongly_verification_fails(choose):
    with pytest.raises(VerificationError, match=r"cuda is off by 0\.5; cpu: cpu is off"):
        choose(works("cuda"), works("cpu"), check=Check("cuda", "cpu"))


def test_a_name_that_does_not_exist_is_an_input_error(choose):
    with pytest.raises(InputError, match="'cudnn' does not exist; use auto, cpu"):
        choose(works("cpu"), backend="cudnn")


def test_a_corrupt_bundle_is_no_reason_to_fall_back(choose):
    with pytest.raises(BundleError):
        choose(fails("tensorrt", BundleError("corrupt")), works("onnxruntime-cpu"))


def test_the_chain_is_the_one_in_the_design():
    names = [candidate.name for candidate in CANDIDATES]
    assert names == ["tensorrt", "onnxruntime-cuda", "native", "onnxruntime-cpu"]


def test_with_only_the_cpu_wheel_there_is_no_warning(bundle):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Embedder.load(bundle) as embedder:
            assert embedder.backend == "onnxruntime-cpu"
            assert embedder.precision == "fp32"


def test_the_warning_points_at_the_line_that_loads(bundle, monkeypatch):
    chain = (fails("tensorrt", FAILURES[0]), CANDIDATES[-1])
    monkeypatch.setattr("elmo_runtime.backends.chain.CANDIDATES", chain)
    with pytest.warns(BackendFallbackWarning) as caught:
        Embedder.load(bundle).close()
    assert caught[0].filename == __file__


def test_a_later_warning_points_at_the_line_that_embeds(bundle, monkeypatch):
    """Its stack level was that of loading, so it pointed into this package."""

    def full(inputs):
        raise DeviceMemoryError("out of device memory")

    device = Watched(bundle, name="tensorrt", before=full)
    chain = (Candidate("tensorrt", lambda bundle: True, lambda *wanted: device), CANDIDATES[-1])
    monkeypatch.setattr("elmo_runtime.backends.chain.CANDIDATES", chain)
    with Embedder.load(bundle, self_check=False) as elmo:
        with pytest.warns(BackendFallbackWarning, match="cpu from now on") as caught:
            list(elmo.embed_stream(["a b"]))
        assert (caught[0].filename, elmo.backend) == (__file__, "onnxruntime-cpu")
    assert device.closed == 1


def test_a_warning_that_became_an_error_closes_the_backend(choose, recwarn):
    check = Check("tensorrt")
    warnings.simplefilter("error")
    with pytest.raises(BackendFallbackWarning):
        choose(works("tensorrt"), works("onnxruntime-cpu"), check=check)
    assert [backend.closed for backend in check.seen] == [1, 1]
