"""Text -> sentences: one set of readers and one rule for white space, used by every command.

sources (names) -> readers (records), one module per format. `tokens` defines the rule.
"""

from elmo_runtime.text.readers import Corpus
from elmo_runtime.text.records import BadRecord, Record
from elmo_runtime.text.sources import Fields, Source, find_sources

__all__ = ["BadRecord", "Corpus", "Fields", "Record", "Source", "find_sources"]
