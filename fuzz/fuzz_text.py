"""atheris: whatever a line of text or JSON holds, it becomes ids as an independent mapper has them.

python fuzz/fuzz_text.py -max_total_time=60        (CI; an hour in the long runs)
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

with atheris.instrument_imports(include=["elmo_runtime"]):
    from elmo_runtime.bulk.readers import Fields, parse_line
    from elmo_runtime.bulk.records import BadRecord
    from elmo_runtime.characters import char_ids, checked_char_ids, lengths_of

from oracle import character_ids


def read_line(data: bytes) -> None:
    """A line -> tokens -> ids, compared; the first byte chooses the format."""
    fuzzed = atheris.FuzzedDataProvider(data)
    format = fuzzed.PickValueInList(["text", "jsonl"])
    line = fuzzed.ConsumeBytes(sys.maxsize).replace(b"\n", b" ")
    record = parse_line(line, "fuzz:1", format, Fields())
    if isinstance(record, BadRecord):
        return
    ids = char_ids(record.tokens)
    assert ids.tolist() == [character_ids(token) for token in record.tokens]
    if len(ids):
        assert lengths_of(checked_char_ids(ids[None])).tolist() == [len(record.tokens)]


if __name__ == "__main__":
    atheris.Setup(sys.argv, read_line)
    atheris.Fuzz()
