"""Which backend serves a bundle: the best that runs here, or exactly the one that was named."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from elmo_runtime.backends.base import Backend, BackendOptions
from elmo_runtime.backends.native import backend as native
from elmo_runtime.backends.onnxruntime import backend as onnxruntime
from elmo_runtime.backends.tensorrt.backend import has_engine, open_tensorrt
from elmo_runtime.bundle.manifest import Bundle
from elmo_runtime.errors import (
    BackendError,
    BackendFallbackWarning,
    BackendUnavailableError,
    BundleError,
    DeviceMemoryError,
    ElmoDeployError,
    EngineError,
    InputError,
    VerificationError,
)

Check = Callable[[Backend], object]  # raises VerificationError if the backend computes wrongly
# What makes "auto" go on with the next backend.
FAILURES = (BackendUnavailableError, BackendError, EngineError, VerificationError)


@dataclass(frozen=True)
class Candidate:
    """A backend that may be there.

    is_expected: whether the user made it ready, by its library or by an engine in the bundle, so
    that its failure deserves a warning. open: raises BackendUnavailableError, BackendError or
    EngineError when it cannot run. serves: whether it was made ready for a precision; "auto" passes
    it by in silence where not.
    """

    name: str
    is_expected: Callable[[Bundle], bool]
    open: Callable[[Bundle, str, BackendOptions], Backend]
    serves: Callable[[Bundle, str], bool] = lambda bundle, precision: True


CANDIDATES: tuple[Candidate, ...] = (  # the best first
    Candidate("tensorrt", has_engine, open_tensorrt),
    Candidate(
        "onnxruntime-cuda", lambda bundle: onnxruntime.cuda_is_installed(), onnxruntime.open_cuda
    ),
    Candidate("native", native.is_ready, native.open_native, native.serves),
    Candidate("onnxruntime-cpu", lambda bundle: True, onnxruntime.open_cpu),
)


def open_backend(
    bundle: Bundle,
    *,
    backend: str = "auto",
    precision: str = "auto",
    options: BackendOptions,
    check: Check | None = None,
    candidates: Sequence[Candidate] = CANDIDATES,
) -> Backend:
    """The backend of this name, or for "auto" the first that opens and passes the check.

    "auto" gives one BackendFallbackWarning when a better one is expected but fails, none when
    nothing better is expected. Raises BackendUnavailableError; InputError for a name unknown;
    VerificationError where the one that was named, or the last one, computes wrongly.
    """
    by_name = {candidate.name: candidate for candidate in candidates}
    if backend == "auto":
        return _open_first(bundle, precision, options, check, candidates)
    if backend not in by_name:
        raise InputError(
            f"backend {backend!r} does not exist", hint=f"use auto, {', '.join(by_name)}"
        )
    try:
        return _open_checked(by_name[backend], bundle, precision, options, check)
    except BackendError as error:  # it is there, but fails from the start
        raise BackendUnavailableError(f"{backend}: {error.what}", hint=error.hint) from error


def open_next(
    bundle: Bundle,
    failed: str,
    error: DeviceMemoryError,
    *,
    precision: str,
    options: BackendOptions,
    check: Check | None = None,
    candidates: Sequence[Candidate] | None = None,
) -> Backend | None:
    """What takes over when the device of a backend cannot hold a single sentence; it warns.

    None where no candidate after the failed one opens and passes the check.
    """
    chain = CANDIDATES if candidates is None else candidates
    names = [candidate.name for candidate in chain]
    rest = chain[names.index(failed) + 1 :] if failed in names else ()
    for candidate in rest:
        if not (candidate.is_expected(bundle) and candidate.serves(bundle, precision)):
            continue
        # OSError: since loading, the process may have lost the right to read the bundle.
        with contextlib.suppress(*FAILURES, BundleError, OSError):
            backend = _open_checked(candidate, bundle, precision, options, check)
            _warn(backend, [(failed, error)], since="from now on ")
            return backend
    return None


def _open_checked(
    candidate: Candidate,
    bundle: Bundle,
    precision: str,
    options: BackendOptions,
    check: Check | None,
) -> Backend:
    """The open backend; one that fails its check is closed."""
    backend = candidate.open(bundle, precision, options)
    if check is None:
        return backend
    try:
        check(backend)
    except BaseException:
        backend.close()
        raise
    return backend


def _open_first(
    bundle: Bundle,
    precision: str,
    options: BackendOptions,
    check: Check | None,
    candidates: Sequence[Candidate],
) -> Backend:
    failures: list[tuple[str, ElmoDeployError]] = []
    for candidate in candidates:
        if not (candidate.is_expected(bundle) and candidate.serves(bundle, precision)):
            continue
        try:
            backend = _open_checked(candidate, bundle, precision, options, check)
        except FAILURES as error:
            failures.append((candidate.name, error))
            continue
        if failures:
            _warn(backend, failures)
        return backend
    reasons = "; ".join(f"{name}: {error.what}" for name, error in failures)
    last = failures[-1][1] if failures else None
    hint = last.hint if last else ""
    if isinstance(last, VerificationError):  # that one runs: the bundle itself is wrong
        raise VerificationError(f"no backend computes what it must: {reasons}", hint=hint)
    raise BackendUnavailableError(f"no backend can run: {reasons}", hint=hint)


def _warn(
    used: Backend, failures: Sequence[tuple[str, ElmoDeployError]], *, since: str = ""
) -> None:
    reasons = ". ".join(f"{name} fails: {error}" for name, error in failures)
    try:
        warnings.warn(
            f"{since}{used.name} is used. {reasons}",
            BackendFallbackWarning,
            stacklevel=5,  # warn, _open_first, open_backend, Embedder.load: who called load
        )
    except BackendFallbackWarning:  # the caller has turned warnings into errors
        used.close()
        raise
