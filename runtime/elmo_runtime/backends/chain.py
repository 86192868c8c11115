"""Which backend serves a bundle: the best that runs here, or the one that was named."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from elmo_runtime.backends.base import Backend, BackendOptions
from elmo_runtime.backends.native import backend as native
from elmo_runtime.backends.onnxruntime import backend as onnxruntime
from elmo_runtime.backends.onnxruntime.installation import cuda_is_installed
from elmo_runtime.backends.tensorrt.backend import has_engine, open_tensorrt
from elmo_runtime.bundle.manifest import Bundle
from elmo_runtime.call_site import user_stacklevel
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

AUTO = "auto"
Check = Callable[[Backend], object]
Failure = tuple[str, ElmoDeployError]  # the name of a backend, and why it cannot serve
# The errors after which "auto" tries the next backend.
FAILURES = (BackendUnavailableError, BackendError, EngineError, VerificationError)


@dataclass(frozen=True)
class Candidate:
    """A backend that may exist on this machine.

    is_expected: whether the user prepared it, with its library or an engine in the bundle, so that
    its failure deserves a warning. open: raises BackendUnavailableError, BackendError or
    EngineError if it cannot run. serves: whether it was prepared for a precision; otherwise "auto"
    skips it silently.
    """

    name: str
    is_expected: Callable[[Bundle], bool]
    open: Callable[[Bundle, str, BackendOptions], Backend]
    serves: Callable[[Bundle, str], bool] = lambda bundle, precision: True


CANDIDATES: tuple[Candidate, ...] = (  # the best first
    Candidate("tensorrt", has_engine, open_tensorrt),
    Candidate("onnxruntime-cuda", lambda bundle: cuda_is_installed(), onnxruntime.open_cuda),
    Candidate("native", native.is_ready, native.open_native, native.serves),
    Candidate("onnxruntime-cpu", lambda bundle: True, onnxruntime.open_cpu),
)


class BackendChain:
    """The backends that can serve a bundle, the best first.

    wanted: a name, or "auto" for the best backend that opens and passes the check. precision: a
    precision, or "auto". check: raises VerificationError if an open backend computes wrong values.
    The chain owns the backends that it opened. One thread at a time may call its methods.
    """

    def __init__(
        self,
        bundle: Bundle,
        wanted: str = AUTO,
        precision: str = AUTO,
        options: BackendOptions | None = None,
        check: Check | None = None,
    ) -> None:
        self._bundle, self._wanted, self._precision = bundle, wanted, precision
        self._options, self._check = options or BackendOptions(), check
        self._opened: list[Backend] = []

    @classmethod
    def of(cls, bundle: Bundle, backend: Backend) -> BackendChain:
        """A chain of one open backend, which no other backend replaces."""
        chain = cls(bundle, backend.name, backend.precision)
        chain._opened = [backend]
        return chain

    def open(self) -> Backend:
        """The wanted backend, or for "auto" the first that opens and passes the check.

        "auto" warns once with BackendFallbackWarning if a better backend was expected but failed.
        Raises InputError for an unknown name, BackendUnavailableError if no backend can run,
        VerificationError if the wanted one, or the last one, computes wrong values.
        """
        if self._wanted != AUTO:
            return self._open_wanted()
        failures: list[Failure] = []
        for candidate in self._usable(CANDIDATES):
            try:
                backend = self._open_checked(candidate)
            except FAILURES as error:
                failures.append((candidate.name, error))
                continue
            if failures:
                self._warn(f"Falling back to {backend.name}", failures)
            return backend
        raise _no_backend(failures)

    def advance(self, failed: Backend, error: DeviceMemoryError) -> Backend:
        """The next backend, for a device that cannot hold a single sentence; it warns.

        Calls of other threads may still run on the failed backend, so it stays open. Raises `error`
        if a backend was wanted by name or no later one opens and passes the check.
        """
        names = [candidate.name for candidate in CANDIDATES]
        later = CANDIDATES[names.index(failed.name) + 1 :] if failed.name in names else ()
        for candidate in self._usable(later) if self._wanted == AUTO else ():
            # OSError: since loading, the process may have lost the right to read the bundle.
            with contextlib.suppress(*FAILURES, BundleError, OSError):
                backend = self._open_checked(candidate)
                self._warn(f"Falling back to {backend.name} from now on", [(failed.name, error)])
                return backend
        raise error

    def close(self) -> None:
        """Free every backend; no computation is running or follows."""
        for backend in self._opened:
            backend.close()

    def _usable(self, candidates: Sequence[Candidate]) -> Iterator[Candidate]:
        """Yield the candidates that "auto" tries."""
        for candidate in candidates:
            if candidate.is_expected(self._bundle) and candidate.serves(
                self._bundle, self._precision
            ):
                yield candidate

    def _open_wanted(self) -> Backend:
        by_name = {candidate.name: candidate for candidate in CANDIDATES}
        if self._wanted not in by_name:
            raise InputError(
                f"backend {self._wanted!r} does not exist", hint=f"use auto, {', '.join(by_name)}"
            )
        try:
            return self._open_checked(by_name[self._wanted])
        except BackendError as error:  # the backend exists, but fails from the start
            raise BackendUnavailableError(
                f"{self._wanted}: {error.what}", hint=error.hint
            ) from error

    def _open_checked(self, candidate: Candidate) -> Backend:
        """The open backend; one that fails the check is closed."""
        backend = candidate.open(self._bundle, self._precision, self._options)
        try:
            if self._check is not None:
                self._check(backend)
        except BaseException:
            backend.close()
            raise
        self._opened.append(backend)
        return backend

    def _warn(self, what: str, failures: Sequence[Failure]) -> None:
        reasons = ". ".join(f"{name} failed: {error}" for name, error in failures)
        try:
            warnings.warn(
                f"{what}. {reasons}", BackendFallbackWarning, stacklevel=user_stacklevel()
            )
        except BackendFallbackWarning:  # the caller has turned warnings into errors
            self._opened.pop().close()
            raise


def _no_backend(failures: Sequence[Failure]) -> ElmoDeployError:
    reasons = "; ".join(f"{name}: {error.what}" for name, error in failures)
    last = failures[-1][1] if failures else None
    hint = last.hint if last else ""
    if isinstance(last, VerificationError):  # the last backend runs: the bundle itself is wrong
        return VerificationError(f"every backend computes wrong values: {reasons}", hint=hint)
    return BackendUnavailableError(f"no backend can run: {reasons}", hint=hint)
