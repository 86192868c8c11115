"""The files of a checkpoint, a bundle or an engine that this package wrote and may replace.

The content decides, because half of all model directories contain a `model.safetensors`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from elmo_export.shapes import expected_shapes
from elmo_runtime.bundle.engines import ENGINE_JSON, read_engine
from elmo_runtime.bundle.manifest import ENGINES, MANIFEST, MANIFEST_DIGEST, MAX_MANIFEST_BYTES
from elmo_runtime.config import ElmoConfig
from elmo_runtime.errors import ElmoDeployError
from elmo_runtime.files.atomic import sha256_of
from elmo_runtime.files.replacing import Format

CONFIG, WEIGHTS, VOCABULARY = "config.json", "model.safetensors", "vocab.txt"
SOFTMAX_WEIGHTS = "softmax.safetensors"  # of the language model; no vector needs it
SOFTMAX = ("softmax.weight", "softmax.bias")  # (V, P) and (V,): only a language model has them
README, SAMPLES, WARM_STATE = "README.md", "samples", "state/warm.safetensors"
MARK = "elmo-deploy vocabulary"  # in the header of model.safetensors: the SHA-256 of vocab.txt
NO_VOCABULARY = "none"
_OPTIONAL = ("softmax.", "layer_mix.")  # tensors that only some checkpoints hold
_Shapes = Mapping[str, tuple[int, ...]]
_ENGINE_NAME = re.compile(r"tensorrt(-rtx)?-[0-9A-Za-z.+]+-sm[0-9]+-[0-9a-f]{12}")
_BUNDLE_KEYS = {"schema", "config", "graphs", "files"}


def _own_checkpoint(folder: Path) -> Collection[str]:
    """Its two to four files, if the weights are an ELMo of the shapes that config.json gives."""
    try:
        config = ElmoConfig.from_options(_read_json(folder / CONFIG))
        shapes, mark = _read_header(folder / WEIGHTS)
    except (ElmoDeployError, SafetensorError, OSError, ValueError, RecursionError):
        return ()
    required = {name: shape for name, shape in shapes.items() if not name.startswith(_OPTIONAL)}
    if required != expected_shapes(config):
        return ()
    softmax = _own_softmax(folder / SOFTMAX_WEIGHTS, config)
    own = [CONFIG, WEIGHTS]
    if softmax:
        own.append(SOFTMAX_WEIGHTS)
    if _is_own_vocabulary(folder / VOCABULARY, mark, {**shapes, **softmax}):
        own.append(VOCABULARY)
    return own


def _read_header(path: Path) -> tuple[_Shapes, str | None]:
    """Shapes of the tensors of a safetensors file, and the mark of the vocabulary."""
    with safe_open(path, framework="np") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        return shapes, (file.metadata() or {}).get(MARK)


def _own_softmax(path: Path, config: ElmoConfig) -> _Shapes:
    """Shapes of the softmax; empty if the file is not the softmax of such a model."""
    try:
        shapes, _ = _read_header(path)
    except (SafetensorError, OSError):
        return {}
    rows = shapes.get(SOFTMAX[1], (0,))
    expected = {SOFTMAX[0]: (*rows, config.projection_dim), SOFTMAX[1]: rows}
    return shapes if shapes == expected else {}


def _is_own_vocabulary(path: Path, mark: str | None, shapes: _Shapes) -> bool:
    """Whether vocab.txt was written with the weights; without a mark, its line count decides."""
    if not path.is_file():
        return False
    if mark is not None:
        return mark == sha256_of(path)
    rows = shapes.get(SOFTMAX[1], (-1,))[0]
    return path.read_bytes().count(b"\n") == rows


def _own_bundle(folder: Path) -> Collection[str]:
    """The files that the manifest lists, the manifest and the engines."""
    content = _read_manifest(folder)
    if content is None:
        return ()
    listed: Mapping[str, Any] = content["files"]
    names = [name for name in listed if name != README or _is_unchanged(folder / name, listed)]
    return (MANIFEST, MANIFEST_DIGEST, *names, *_engine_files(folder))


def _is_unchanged(readme: Path, listed: Mapping[str, Any]) -> bool:
    """Whether the model card was not edited since the export."""
    try:
        return bool(sha256_of(readme) == listed[readme.name]["sha256"])
    except (OSError, KeyError, TypeError):
        return False


def _engine_files(bundle: Path) -> Iterator[str]:
    for folder in sorted((bundle / ENGINES).glob("tensorrt*")):
        yield from (f"{ENGINES}/{folder.name}/{name}" for name in _own_engine(folder))


def _own_engine(folder: Path) -> Collection[str]:
    """engine.json and the plans of a directory that is named like an engine, corrupt or not."""
    if not _ENGINE_NAME.fullmatch(folder.name) or folder.is_symlink():
        return ()
    return (ENGINE_JSON, *(plan.name for plan in folder.glob("*.plan")))


def _fitting_engines(old: Path, new: Path) -> Collection[str]:
    """The engines of the old bundle whose graphs the new bundle has as well."""
    content = _read_manifest(new) or {"files": {}}
    digests = {name: entry["sha256"] for name, entry in content["files"].items()}
    kept: list[str] = []
    for folder in sorted((old / ENGINES).glob("tensorrt*")):
        try:
            engine, _ = read_engine(folder)
        except ElmoDeployError:
            continue
        if all(digests.get(plan.graph) == plan.graph_sha256 for plan in engine.plans):
            names = (ENGINE_JSON, *(plan.file for plan in engine.plans))
            kept += [f"{ENGINES}/{folder.name}/{name}" for name in names]
    return tuple(name for name in kept if (old / name).is_file())


def _read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a bundle of any schema, or None; no digest is checked."""
    try:
        content = _read_json(folder / MANIFEST)
    except (OSError, ValueError, RecursionError):
        return None
    is_ours = isinstance(content, dict) and content.keys() >= _BUNDLE_KEYS
    return content if is_ours and isinstance(content["files"], dict) else None


def _read_json(path: Path) -> Any:
    if path.stat().st_size > MAX_MANIFEST_BYTES:
        raise ValueError(f"{path} is too large")
    return json.loads(path.read_bytes())


CHECKPOINT_FORMAT = Format(
    name="checkpoint",
    owned=_own_checkpoint,
    reserved=(CONFIG, WEIGHTS, SOFTMAX_WEIGHTS, VOCABULARY),
    last=(WEIGHTS,),
)
BUNDLE_FORMAT = Format(
    name="bundle",
    owned=_own_bundle,
    reserved=(
        MANIFEST, MANIFEST_DIGEST, CONFIG, README, "graphs", SAMPLES, WARM_STATE.partition("/")[0]
    ),
    last=(MANIFEST, MANIFEST_DIGEST),
    keeps=_fitting_engines,
)  # fmt: skip
ENGINE_FORMAT = Format(
    name="engine", owned=_own_engine, reserved=(ENGINE_JSON,), last=(ENGINE_JSON,)
)
