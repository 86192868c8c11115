"""The compiled library through ctypes: the structures and functions of source/interface.h."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from elmo_runtime.config import ElmoConfig
from elmo_runtime.errors import BackendError, BackendUnavailableError, DeviceMemoryError
from elmo_runtime.installation import INSTALL_AGAIN

LIBRARY = Path(__file__).with_name("libelmo_native.so")
CHOICE = "ELMO_DEPLOY_NATIVE_ISA"  # environment variable: the name of an instruction set
INTERFACE_VERSION = 1
FORMS = {"fp32": 0, "bf16": 1, "int8": 2}
N_CHARACTERS = 261  # rows of the embedding
_MESSAGE_BYTES = 256
_NO_MEMORY, _UNSUPPORTED = 2, 3

Array = NDArray[np.float32]
_Floats = ctypes.POINTER(ctypes.c_float)
_Int32s = ctypes.POINTER(ctypes.c_int32)


class _Config(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int32) for name in (
            "projection_dim", "lstm_dim", "n_layers", "skip_connections", "n_characters",
            "char_embedding_dim", "n_banks", "n_highway", "tanh_activation",
        )),
        ("cell_clip", ctypes.c_float),
        ("proj_clip", ctypes.c_float),
        ("bank_widths", _Int32s),
        ("bank_counts", _Int32s),
    ]  # fmt: skip


class _Tensors(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.POINTER(ctypes.c_void_p)),
        ("sizes", ctypes.POINTER(ctypes.c_int64)),
        ("count", ctypes.c_int64),
    ]


class StateView(ctypes.Structure):
    """The address and strides of an array (layers, 2, batch, width)."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("layer_stride", ctypes.c_int64),
        ("direction_stride", ctypes.c_int64),
        ("row_stride", ctypes.c_int64),
    ]

    @classmethod
    def of(cls, state: Array) -> StateView:
        """A view of an array that the caller keeps; its last axis must be contiguous."""
        return cls(state.ctypes.data, *(stride // state.itemsize for stride in state.strides[:3]))


class Batch(ctypes.Structure):
    """The inputs and results of a batch; a result without an address is not computed."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("n_words", "batch", "marked_length", "n_mixes")),
        *((name, ctypes.c_void_p) for name in ("word_vectors", "word_index", "lengths", "shares")),
        ("initial_h", StateView),
        ("initial_c", StateView),
        ("layers", ctypes.POINTER(ctypes.c_void_p)),
        *((name, ctypes.c_void_p) for name in ("elmo", "pooled", "final_h", "final_c")),
    ]


class Model:
    """Packed weights and a team of threads. Any number of calls may overlap."""

    def __init__(
        self,
        config: ElmoConfig,
        tensors: Mapping[str, Array],
        *,
        form: str,
        threads: int,
        spinning: bool,
    ) -> None:
        self._library = load_library()
        self._width = config.projection_dim
        self._handle = ctypes.c_void_p()
        arrays = [np.ascontiguousarray(tensors[name]) for name in tensor_shapes(config)]
        self._check(
            "elmo_native_open",
            ctypes.byref(_config(config)),
            ctypes.byref(_tensors(arrays)),
            FORMS[form],
            threads,
            int(spinning),
            ctypes.byref(self._handle),
        )

    def encode(self, char_ids: NDArray[np.int32]) -> Array:
        """(words, characters) -> (words, P)."""
        ids = np.ascontiguousarray(char_ids, np.int32)
        vectors = np.empty((len(ids), self._width), np.float32)
        addresses = ids.ctypes.data, vectors.ctypes.data
        self._check("elmo_native_encode", self._handle, addresses[0], *ids.shape, addresses[1])
        return vectors

    def run(self, batch: Batch) -> None:
        """Write the results of a batch."""
        self._check("elmo_native_run", self._handle, ctypes.byref(batch))

    def close(self) -> None:
        """Free the weights and end the threads; no call is running or follows."""
        handle, self._handle = self._handle, ctypes.c_void_p()
        if handle:
            self._library.elmo_native_close(handle)

    def _check(self, function: str, *arguments: object) -> None:
        """Call a function whose last argument is a message; raise the error of its status."""
        message = ctypes.create_string_buffer(_MESSAGE_BYTES)
        status = getattr(self._library, function)(*arguments, message)
        if not status:
            return
        text = message.value.decode("utf-8", "replace")
        if status == _NO_MEMORY:
            raise DeviceMemoryError(f"native: {text}", hint="use a smaller token_budget")
        if status == _UNSUPPORTED:
            raise BackendUnavailableError(f"native: {text}", hint="use onnxruntime-cpu")
        raise BackendError(f"native: {text}")


def instruction_set() -> str | None:
    """The instruction set of a new model, e.g. "avx2"; None if the library cannot run.

    Raises BackendUnavailableError if it was not built.
    """
    name: bytes | None = load_library().elmo_native_instruction_set()
    return name.decode("ascii") if name else None


def load_library() -> ctypes.CDLL:
    """The library. Raises BackendUnavailableError if it was not built or has another version."""
    if not LIBRARY.exists():
        raise BackendUnavailableError(
            "the native library was not built when elmo-deploy was installed",
            hint=f"use onnxruntime-cpu, or install g++ or clang++, then: {INSTALL_AGAIN}",
        )
    return _load(LIBRARY)


@functools.cache
def _load(path: Path) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(str(path))
        version = library.elmo_native_interface_version()
    except (OSError, AttributeError) as error:
        raise BackendUnavailableError(
            f"{path} cannot be loaded: {error}", hint=INSTALL_AGAIN
        ) from error
    if version != INTERFACE_VERSION:
        raise BackendUnavailableError(
            f"{path} has interface {version}, this elmo-deploy needs {INTERFACE_VERSION}",
            hint=INSTALL_AGAIN,
        )
    pointer, int32, int64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
    library.elmo_native_instruction_set.restype = ctypes.c_char_p
    library.elmo_native_open.argtypes = [pointer, pointer, int32, int32, int32, pointer, pointer]
    library.elmo_native_encode.argtypes = [pointer, pointer, int64, int64, pointer, pointer]
    library.elmo_native_run.argtypes = [pointer, pointer, pointer]
    library.elmo_native_close.argtypes = [pointer]
    library.elmo_native_close.restype = None
    return library


def tensor_shapes(config: ElmoConfig) -> dict[str, tuple[int, ...]]:
    """The names of the tensors in the order of source/interface.h, with their shapes."""
    P, C, F = config.projection_dim, config.lstm_dim, config.n_filters
    shapes: dict[str, tuple[int, ...]] = {
        "char_cnn.embedding": (N_CHARACTERS, config.char_embedding_dim)
    }
    for index, (width, count) in enumerate(config.filters):
        convolution = f"char_cnn.convolutions.{index}"
        shapes[f"{convolution}.weight"] = (count, config.char_embedding_dim, width)
        shapes[f"{convolution}.bias"] = (count,)
    for index in range(config.n_highway):
        for part in ("transform", "gate"):
            shapes[f"char_cnn.highways.{index}.{part}.weight"] = (F, F)
            shapes[f"char_cnn.highways.{index}.{part}.bias"] = (F,)
    shapes |= {"char_cnn.projection.weight": (P, F), "char_cnn.projection.bias": (P,)}
    for direction in ("forward", "backward"):
        for depth in range(config.n_layers):
            layer = f"bilm.{direction}_stack.layers.{depth}"
            shapes[f"{layer}.input_weight"] = (P, 4 * C)
            shapes[f"{layer}.recurrent_weight"] = (P, 4 * C)
            shapes[f"{layer}.bias"] = (4 * C,)
            shapes[f"{layer}.projection_weight"] = (C, P)
    return shapes


def _config(config: ElmoConfig) -> _Config:
    widths, counts = zip(*config.filters, strict=True)
    numbers = ctypes.c_int32 * len(widths)
    return _Config(
        projection_dim=config.projection_dim,
        lstm_dim=config.lstm_dim,
        n_layers=config.n_layers,
        skip_connections=config.use_skip_connections,
        n_characters=N_CHARACTERS,
        char_embedding_dim=config.char_embedding_dim,
        n_banks=len(widths),
        n_highway=config.n_highway,
        tanh_activation=config.activation == "tanh",
        cell_clip=np.inf if config.cell_clip is None else config.cell_clip,
        proj_clip=np.inf if config.proj_clip is None else config.proj_clip,
        bank_widths=numbers(*widths),
        bank_counts=numbers(*counts),
    )


def _tensors(arrays: Sequence[Array]) -> _Tensors:
    """The addresses and sizes of arrays that the caller keeps until they are used."""
    addresses = (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))
    sizes = (ctypes.c_int64 * len(arrays))(*(array.size for array in arrays))
    return _Tensors(data=addresses, sizes=sizes, count=len(arrays))
