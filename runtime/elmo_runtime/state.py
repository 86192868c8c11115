"""The LSTM state between calls: zero | warm | carry | an explicit State.

In bilm-tf and AllenNLP, row b of a batch continues row b of the previous batch; here that is the
policy "carry", and a fixed state is the default.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from elmo_runtime.bundle.manifest import Bundle
from elmo_runtime.config import ElmoConfig
from elmo_runtime.errors import BundleError, BundleVersionError, InputError

POLICIES = ("zero", "warm", "carry")
ROUNDING = 1 + 2**-10  # FP16 may round a clip upward
WARM_STATE = "state/warm.safetensors"


@dataclass(frozen=True, eq=False)
class State:
    """The LSTM state of some sentences; axis 1 of both arrays is forward, backward.

    Attributes:
        h: The projected outputs, float32 (layers, 2, rows, P).
        c: The cells, float32 (layers, 2, rows, C).

    Examples:
        >>> import numpy as np
        >>> state = State(np.zeros((2, 2, 1, 8), np.float32), np.zeros((2, 2, 1, 24), np.float32))
        >>> state.first(3)
        State of 3 rows: h (2, 2, 3, 8), c (2, 2, 3, 24)
    """

    h: NDArray[np.float32]
    c: NDArray[np.float32]

    @classmethod
    def zeros(cls, config: ElmoConfig, rows: int) -> State:
        """The zero state.

        Args:
            config: The options of the ELMo, such as `embedder.config`.
            rows: The number of sentences.

        Returns:
            A state of zeros with this number of rows.
        """
        shape = (config.n_layers, 2, rows)
        return cls(
            np.zeros((*shape, config.projection_dim), np.float32),
            np.zeros((*shape, config.lstm_dim), np.float32),
        )

    def __repr__(self) -> str:
        return f"State of {self.rows} rows: h {self.h.shape}, c {self.c.shape}"

    @property
    def rows(self) -> int:
        """The number of sentences."""
        return int(self.h.shape[2])

    def first(self, rows: int) -> State:
        """The first `rows` rows; missing rows are zero."""
        missing = max(rows - self.rows, 0)
        padding = ((0, 0), (0, 0), (0, missing), (0, 0))
        return State(np.pad(self.h[:, :, :rows], padding), np.pad(self.c[:, :, :rows], padding))

    def repeated(self, rows: int) -> State:
        """Its single row, `rows` times, as views: a backend sees that all rows are the same."""
        shapes = ((*part.shape[:2], rows, part.shape[3]) for part in (self.h, self.c))
        return State(*map(np.broadcast_to, (self.h, self.c), shapes))

    def take(self, rows: NDArray[np.intp]) -> State:
        """The chosen rows, in this order."""
        return State(*(np.ascontiguousarray(part[:, :, rows]) for part in (self.h, self.c)))

    def followed_by(self, state: State) -> State:
        """`state` for the first rows; the other rows are kept."""
        return State(
            np.concatenate([state.h, self.h[:, :, state.rows :]], axis=2),
            np.concatenate([state.c, self.c[:, :, state.rows :]], axis=2),
        )


def checked_state(state: object, config: ElmoConfig) -> State:
    """The state of a caller. Raises InputError if no call with this config could return it."""
    if not isinstance(state, State):
        raise InputError(
            f"state is a {type(state).__name__}",
            hint="pass `out.state` of an earlier call or State.zeros(embedder.config, rows)",
        )
    rows = state.h.shape[2:3] if isinstance(state.h, np.ndarray) else ()
    for name, array, width, clip in (
        ("h", state.h, config.projection_dim, config.proj_clip),
        ("c", state.c, config.lstm_dim, config.cell_clip),
    ):
        if not isinstance(array, np.ndarray) or array.dtype != np.float32:
            raise InputError(f"state.{name} must be a float32 array")
        if array.shape != (config.n_layers, 2, *rows, width):
            raise InputError(
                f"state.{name} has shape {array.shape},"
                f" must be ({config.n_layers}, 2, rows, {width})"
            )
        if not np.isfinite(array).all():
            raise InputError(f"state.{name} contains a value that is not finite")
        largest = float(np.abs(array).max(initial=0))
        if clip is not None and largest > clip * ROUNDING:
            raise InputError(
                f"state.{name} holds {largest:.6g}, beyond the clip {clip:g} of this model",
                hint="pass the state of a call with the same bundle",
            )
    return state


def read_warm(bundle: Bundle) -> State:
    """The fixed state (one row) that the export stored in the bundle.

    Raises BundleError if there is none, BundleVersionError if it has other shapes.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    path = bundle.path / WARM_STATE
    if WARM_STATE not in bundle.files:
        raise BundleError(f"{path} does not exist", hint='use state="zero" or export again')
    try:
        tensors = load(bundle.read(WARM_STATE))
        state = State(tensors["h"][:, :, None], tensors["c"][:, :, None])
        return checked_state(state, bundle.config)
    except (SafetensorError, KeyError, IndexError, InputError) as error:
        raise BundleVersionError(
            f"{path} is not a warm state: {error}", hint="export again"
        ) from error
