"""The options of `Embedder.load`, grouped by what they concern."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import TypedDict

from elmo_runtime.call_site import user_stacklevel
from elmo_runtime.errors import InputError


@dataclass(frozen=True, kw_only=True)
class CpuOptions:
    """How a backend on the CPU may use the processor.

    Attributes:
        threads: Threads per computation; None is one per CPU that this process may use.
        spinning: Let idle threads busy-wait, which is faster but keeps their CPUs busy.

    Raises:
        InputError: `threads` is not a positive integer.
    """

    threads: int | None = None
    spinning: bool = True

    def __post_init__(self) -> None:
        """Reject a count of threads that has no meaning."""
        check_count("threads", self.threads, least=1)


@dataclass(frozen=True, kw_only=True)
class GpuOptions:
    """How a backend on a GPU may use the device.

    Attributes:
        mem_limit: Bytes of device memory for ONNX Runtime on CUDA, weights included; None is no
            limit.

    Raises:
        InputError: `mem_limit` is not a positive integer.
    """

    mem_limit: int | None = None

    def __post_init__(self) -> None:
        """Reject a limit that no model fits in."""
        check_count("mem_limit", self.mem_limit, least=1)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What an embedder accepts from its callers; None is no limit.

    Attributes:
        max_running: Calls that compute at the same time, each with one batch in memory.
        max_waiting: Further calls that may wait for their turn.
        timeout: Seconds that a call may wait for its turn.
        max_sentence_tokens: Tokens of the longest sentence that is accepted.

    Raises:
        InputError: A limit that no call can meet.
    """

    max_running: int | None = None
    max_waiting: int | None = None
    timeout: float | None = None
    max_sentence_tokens: int | None = None

    def __post_init__(self) -> None:
        """Reject limits that no call can meet."""
        check_count("max_running", self.max_running, least=1)
        check_count("max_waiting", self.max_waiting, least=0)
        check_count("max_sentence_tokens", self.max_sentence_tokens, least=1)
        if self.timeout is not None and not self.timeout >= 0:
            raise InputError(f"timeout is {self.timeout!r}, must be a number of seconds")
        if self.max_running is None and (self.max_waiting, self.timeout) != (None, None):
            raise InputError(
                "max_waiting or timeout is given without max_running: no call would ever wait",
                hint="set max_running as well, for example to 1",
            )


def check_count(name: str, value: object, *, least: int) -> None:
    """Raise InputError unless the value is an integer of at least `least`, or None."""
    is_count = isinstance(value, int) and not isinstance(value, bool) and value >= least
    if value is not None and not is_count:
        raise InputError(f"{name} is {value!r}, must be an integer of at least {least}")


class OldOptions(TypedDict, total=False):
    """Options of `Embedder.load` until version 0.1, which now belong to a group."""

    threads: int | None
    spinning: bool
    gpu_mem_limit: int | None
    max_running: int | None
    max_waiting: int | None
    timeout: float | None
    max_sentence_tokens: int | None


NEW_NAMES = {  # (group, name)
    "threads": ("cpu", "threads"),
    "spinning": ("cpu", "spinning"),
    "gpu_mem_limit": ("gpu", "mem_limit"),
    "max_running": ("limits", "max_running"),
    "max_waiting": ("limits", "max_waiting"),
    "timeout": ("limits", "timeout"),
    "max_sentence_tokens": ("limits", "max_sentence_tokens"),
}


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """The groups of options of one embedder."""

    cpu: CpuOptions = CpuOptions()
    gpu: GpuOptions = GpuOptions()
    limits: Limits = Limits()

    def with_old_names(self, old: OldOptions) -> LoadOptions:
        """These options, changed by the options of the old names; each of them warns."""
        changes: dict[str, dict[str, object]] = {}
        for old_name, value in old.items():
            if old_name not in NEW_NAMES:
                raise TypeError(f"Embedder.load() got an unexpected keyword argument {old_name!r}")
            group, name = NEW_NAMES[old_name]
            changes.setdefault(group, {})[name] = value
            warnings.warn(
                f"Embedder.load(..., {old_name}={value!r}) is deprecated;"
                f" use {group}={type(getattr(self, group)).__name__}({name}={value!r})",
                DeprecationWarning,
                stacklevel=user_stacklevel(),
            )
        # One replacement per group: some limits are valid only together.
        groups = {group: replace(getattr(self, group), **new) for group, new in changes.items()}
        return replace(self, **groups)
