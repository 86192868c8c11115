"""Fuzz texts with atheris: tokens get the ids of an independent mapper, bad lines get a reason.

python fuzz/fuzz_text.py -max_total_time=60        (CI; an hour in the long runs)
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

with atheris.instrument_imports(include=["elmo_runtime"]):
    from elmo_runtime.characters import char_ids, checked_char_ids, lengths_of
    from elmo_runtime.text.readers import Corpus
    from elmo_runtime.text.records import BadRecord
    from elmo_runtime.text.sources import Source
    from elmo_runtime.text.suffixes import FORMATS

from oracle import character_ids


class Typed:
    """Standard input, as a Corpus reads it."""

    def __init__(self, data: bytes) -> None:
        self.buffer = io.BytesIO(data)


def read_text(data: bytes) -> None:
    """Read the bytes as records and compare their ids; one byte chooses the format."""
    fuzzed = atheris.FuzzedDataProvider(data)
    format = fuzzed.PickValueInList([name for name in FORMATS if name != "parquet"])
    sys.stdin = Typed(fuzzed.ConsumeBytes(sys.maxsize))
    for record in Corpus([Source("fuzz", None, format)]):
        if isinstance(record, BadRecord):
            continue
        ids = char_ids(record.tokens)
        assert ids.tolist() == [character_ids(token) for token in record.tokens]
        if len(ids):
            assert lengths_of(checked_char_ids(ids[None])).tolist() == [len(record.tokens)]


if __name__ == "__main__":
    atheris.Setup(sys.argv, read_text)
    atheris.Fuzz()
