"""The backend `native`: it packs the FP32 weights of a bundle for the native library."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elmo_runtime.backends.base import BackendOptions, BiLmInputs, FloatArray
from elmo_runtime.backends.native.cores import usable_cores
from elmo_runtime.backends.native.initializers import read_initializers
from elmo_runtime.backends.native.library import (
    Batch,
    Model,
    StateView,
    instruction_set,
    load_library,
    tensor_shapes,
)
from elmo_runtime.bundle.manifest import Bundle, Manifest
from elmo_runtime.config import ElmoConfig
from elmo_runtime.errors import BackendError, BackendUnavailableError, BundleVersionError
from elmo_runtime.mixes import Mixes, mix_batch
from elmo_runtime.outputs import Output

WORD_EMB, ELMO, DEFAULT = Output.WORD_EMB.value, Output.ELMO.value, Output.DEFAULT.value


def is_ready(bundle: Bundle) -> bool:
    """Whether the library runs on this machine and verified the bundle."""
    if not bundle.native_forms:
        return False
    try:
        return instruction_set() is not None
    except BackendUnavailableError:
        return False


def serves(bundle: Bundle, precision: str) -> bool:
    """Whether the bundle was verified in this precision."""
    return precision == "auto" or precision in bundle.native_forms


def open_native(bundle: Bundle, precision: str, options: BackendOptions) -> NativeBackend:
    """Open it. Raises BackendUnavailableError without the library, AVX2 or a verified form."""
    load_library()
    forms = bundle.native_forms
    wanted = ("fp32", "bf16", "int8") if precision == "auto" else (precision,)
    for form in wanted:
        if form in forms:
            tensors = read_tensors(bundle.read, bundle.manifest)
            return NativeBackend(bundle.config, tensors, form, options)
    raise BackendUnavailableError(
        f"the export of {bundle.path} verified native in {', '.join(forms) or 'no precision'},"
        f" not in {' or '.join(wanted)}",
        hint="export again on a machine with the native library, with --precision fp32"
        + "".join(f" --precision {form}" for form in wanted if form in ("bf16", "int8")),
    )


class NativeBackend:
    """One form (fp32, bf16 or int8) of a bundle's model on the CPU."""

    name = "native"
    longest: int | None = None

    def __init__(
        self,
        config: ElmoConfig,
        tensors: Mapping[str, NDArray[np.float32]],
        form: str,
        options: BackendOptions,
    ) -> None:
        self.precision = form
        self._config = config
        threads = options.threads or usable_cores()
        self._model = Model(config, tensors, form=form, threads=threads, spinning=options.spinning)

    def encode_words(self, char_ids: NDArray[np.int32]) -> FloatArray:
        """(words, max_characters) ids, at least one word -> (words, P)."""
        return self._model.encode(char_ids)

    def run_bilm(
        self, inputs: BiLmInputs, outputs: Sequence[str], *, half: bool = False
    ) -> dict[str, NDArray[np.floating[Any]]]:
        """A batch -> the requested outputs; vectors are float32, even if half is set."""
        if inputs.layer_norm is not None and inputs.layer_norm.any():
            return self._run_normalized(inputs, outputs)
        return self._run(inputs, outputs)

    def _run_normalized(
        self, inputs: BiLmInputs, outputs: Sequence[str]
    ) -> dict[str, NDArray[np.floating[Any]]]:
        """The library mixes layers without layer norm; other mixes are computed here."""
        layers = (WORD_EMB, *self._config.layer_names)
        names = dict.fromkeys([*(n for n in outputs if n not in (ELMO, DEFAULT)), *layers])
        found = self._run(inputs, list(names))
        tokens, *contextual = (found[name] for name in layers)
        whole = [np.concatenate([tokens, tokens], axis=-1), *contextual]
        mixes = Mixes((), inputs.mix_weights, inputs.gamma, inputs.layer_norm)
        found[ELMO] = mix_batch(whole, inputs.lengths, mixes)
        counts = np.maximum(inputs.lengths, 1).astype(np.float32)
        found[DEFAULT] = np.add.reduce(found[ELMO], axis=2) / counts[:, None]
        return {name: found[name] for name in outputs}

    def _run(
        self, inputs: BiLmInputs, outputs: Sequence[str]
    ) -> dict[str, NDArray[np.floating[Any]]]:
        _check_shapes(self._config, inputs)
        found = _empty_outputs(self._config, inputs, outputs)
        kept = _contiguous(inputs)
        h, c = (_rows_contiguous(state) for state in (inputs.initial_h, inputs.initial_c))
        address = {name: array.ctypes.data for name, array in (*found.items(), *kept.items())}
        layers = [address.get(name) for name in self._config.layer_names]
        batch = Batch(
            n_words=len(inputs.word_vectors),
            batch=len(inputs.lengths),
            marked_length=inputs.word_index.shape[1],
            n_mixes=len(inputs.gamma),
            initial_h=StateView.of(h),
            initial_c=StateView.of(c),
            layers=(ctypes.c_void_p * len(layers))(*layers),
            pooled=address.get(DEFAULT),
            **{name: address.get(name) for name in (*kept, ELMO, "final_h", "final_c")},
        )
        if set(outputs) != {WORD_EMB}:
            self._model.run(batch)
        if WORD_EMB in outputs:
            found[WORD_EMB] = _token_vectors(inputs)
        return {name: found[name] for name in outputs}

    def close(self) -> None:
        """Free the weights and end the threads."""
        self._model.close()


def read_tensors(
    read: Callable[[str], bytes], manifest: Manifest
) -> dict[str, NDArray[np.float32]]:
    """The model's tensors, as views of the bytes of its fp32 graphs; read: file name -> bytes.

    Raises BackendUnavailableError without such graphs, BundleVersionError for a tensor that is
    missing or whose shape does not match the config.
    """
    found: dict[str, NDArray[np.float32]] = {}
    for part in ("token_encoder", "bilm"):
        files = [g.file for g in manifest.graphs if (g.part, g.precision) == (part, "fp32")]
        if not files:
            raise BackendUnavailableError(
                f"there is no fp32 graph {part} from which native could take its weights",
                hint="export the checkpoint with --precision fp32 too",
            )
        found |= read_initializers(read(files[0]), name=files[0])
    return {
        name: _fitting(name, shape, found) for name, shape in tensor_shapes(manifest.config).items()
    }


def _fitting(
    name: str, shape: tuple[int, ...], found: Mapping[str, NDArray[np.float32]]
) -> NDArray[np.float32]:
    if name not in found:
        raise BundleVersionError(
            f"the fp32 graphs hold no tensor {name}", hint="export the checkpoint again"
        )
    # A graph's convolutions are two-dimensional: (count, d, 1, width).
    if [n for n in found[name].shape if n != 1] != [n for n in shape if n != 1]:
        raise BundleVersionError(
            f"tensor {name} is {found[name].shape}, the config says {shape}",
            hint="export the checkpoint again",
        )
    return found[name]


def _check_shapes(config: ElmoConfig, inputs: BiLmInputs) -> None:
    """The library checks numbers itself, but not shapes."""
    batch, mixes = len(inputs.lengths), len(inputs.gamma)
    layers, P, C = config.n_layers, config.projection_dim, config.lstm_dim
    expected = {
        "word_vectors": (len(inputs.word_vectors), P),
        "word_index": (batch, inputs.word_index.shape[-1]),
        "mix_weights": (mixes, layers + 1),
        "initial_h": (layers, 2, batch, P),
        "initial_c": (layers, 2, batch, C),
    }
    for name, shape in expected.items():
        if (found := getattr(inputs, name)).shape != shape or found.dtype.itemsize != 4:
            raise BackendError(f"native: {name} is {found.dtype} {found.shape}, must be {shape}")


def _empty_outputs(
    config: ElmoConfig, inputs: BiLmInputs, outputs: Sequence[str]
) -> dict[str, NDArray[np.float32]]:
    """Arrays for the requested outputs; the library writes every element."""
    batch, length = len(inputs.lengths), inputs.word_index.shape[1] - 2
    mixes, width = len(inputs.gamma), config.output_dim
    shapes: dict[str, tuple[int, ...]] = {
        **dict.fromkeys(config.layer_names, (batch, length, width)),
        ELMO: (mixes, batch, length, width),
        DEFAULT: (mixes, batch, width),
        "final_h": (config.n_layers, 2, batch, config.projection_dim),
        "final_c": (config.n_layers, 2, batch, config.lstm_dim),
    }
    return {name: np.empty(shape, np.float32) for name, shape in shapes.items() if name in outputs}


def _contiguous(inputs: BiLmInputs) -> dict[str, NDArray[Any]]:
    return {
        "word_vectors": np.ascontiguousarray(inputs.word_vectors, np.float32),
        "word_index": np.ascontiguousarray(inputs.word_index, np.int32),
        "lengths": np.ascontiguousarray(inputs.lengths, np.int32),
        "shares": _shares(inputs.mix_weights, inputs.gamma),
    }


@np.errstate(all="ignore")  # small weights underflow, which a caller may have made an error
def _shares(weights: NDArray[np.float32], gamma: NDArray[np.float32]) -> NDArray[np.float32]:
    """(mixes, layers + 1): gamma * softmax(weights)."""
    powers = np.exp(weights - weights.max(axis=1, keepdims=True), dtype=np.float64)
    shares = powers / powers.sum(axis=1, keepdims=True) * gamma[:, None]
    return np.ascontiguousarray(shares, np.float32)


def _rows_contiguous(state: NDArray[np.float32]) -> NDArray[np.float32]:
    """The state itself, unless the numbers of a row are not contiguous."""
    return state if state.strides[-1] == state.itemsize else np.ascontiguousarray(state)


def _token_vectors(inputs: BiLmInputs) -> NDArray[np.float32]:
    """(batch, length, P), 0 past each length."""
    tokens = inputs.word_vectors[inputs.word_index[:, 1:-1]]
    real = np.arange(tokens.shape[1]) < inputs.lengths[:, None]
    return np.where(real[:, :, None], tokens, np.float32(0))
