"""atheris: weights of other formats are imported or refused with an ArtifactError.

python fuzz/fuzz_importers.py -max_total_time=60        (CI; an hour in the long runs)

Every input is a valid file with some bytes replaced, so that mutants get past the magic numbers.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
import zipfile
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

with atheris.instrument_imports(include=["elmo_deploy.importers"]):
    from elmo_deploy.importers import tensor_bundle
    from elmo_deploy.importers.allennlp_layout import entries as allennlp_entries
    from elmo_deploy.importers.bilm_layout import entries as bilm_entries
    from elmo_deploy.importers.detect import Companions, import_path

import numpy as np
import torch

import tf_bundle
from elmo_runtime.errors import ArtifactError, InputError
from random_models import random_checkpoint, tiny_config

SCRATCH = tempfile.TemporaryDirectory()
FOLDER = Path(SCRATCH.name)
CHECKPOINT = random_checkpoint(tiny_config())
OPTIONS = json.dumps(CHECKPOINT.config.to_options()).encode()
EDITS = 8


def arrays(entries: list, prefix: str) -> dict[str, np.ndarray]:
    """The checkpoint in the names and layouts of another format."""
    return {
        prefix + entry.name: np.ascontiguousarray(
            entry.layout.to_file(*(CHECKPOINT.tensors[name] for name in entry.tensors))
        )
        for entry in entries
    }


def bundle() -> dict[str, bytes]:
    """The files of a TensorFlow checkpoint; the first one is fuzzed."""
    tf_bundle.write_bundle(FOLDER / "model", arrays(bilm_entries(CHECKPOINT.config), "lm/"))
    names = ("model.index", "model.data-00000-of-00001")
    return {name: (FOLDER / name).read_bytes() for name in names} | {"options.json": OPTIONS}


def archive() -> dict[str, bytes]:
    """A trained model of AllenNLP as a zip, whose weights.th is fuzzed."""
    tensors = arrays(allennlp_entries(CHECKPOINT.config), "")
    file = io.BytesIO()
    torch.save({name: torch.from_numpy(array) for name, array in tensors.items()}, file)
    return {"weights.th": file.getvalue(), "config.json": b"{}", "options.json": OPTIONS}


def zipped() -> dict[str, bytes]:
    """The same in a zip, which is fuzzed itself."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as zip_file:
        for name, content in archive().items():
            zip_file.writestr(name, content)
    return {"model.zip": file.getvalue()}


# With real CRCs, every mutant of an index would stop at the CRC of its block.
tensor_bundle._masked = lambda crc: 0
tf_bundle.masked = lambda content: bytes(4)
SOURCES = (bundle(), archive(), zipped())
(FOLDER / "options.json").write_bytes(OPTIONS)
COMPANIONS = Companions(options=FOLDER / "options.json")


def import_mutant(data: bytes) -> None:
    """Replace some bytes of a file and import it."""
    fuzzed = atheris.FuzzedDataProvider(data)
    files = dict(SOURCES[fuzzed.ConsumeIntInRange(0, len(SOURCES) - 1)])
    name = next(iter(files))
    content = bytearray(files[name])
    for _ in range(fuzzed.ConsumeIntInRange(1, EDITS)):
        content[fuzzed.ConsumeIntInRange(0, len(content) - 1)] = fuzzed.ConsumeIntInRange(0, 255)
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        for file, value in (files | {name: bytes(content)}).items():
            (Path(folder) / file).write_bytes(value)
        try:
            source = Path(folder) / name if name.endswith(".zip") else Path(folder)
            import_path(source, COMPANIONS)
        except (ArtifactError, InputError):
            pass


if __name__ == "__main__":
    atheris.Setup(sys.argv, import_mutant)
    atheris.Fuzz()
