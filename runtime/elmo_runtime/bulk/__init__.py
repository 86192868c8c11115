"""Large inputs -> a directory of Parquet parts, resumable after any interruption.

elmo_runtime.text (records) -> blocks -> job (parts), with a journal.
"""

from elmo_runtime.bulk.blocks import BlockLimits
from elmo_runtime.bulk.embedding import embedding_job
from elmo_runtime.bulk.job import BulkJob, Columns
from elmo_runtime.bulk.progress import Shard, Summary
from elmo_runtime.text import BadRecord, Corpus, Fields, Record, Source, find_sources

__all__ = [
    "BadRecord",
    "BlockLimits",
    "BulkJob",
    "Columns",
    "Corpus",
    "Fields",
    "Record",
    "Shard",
    "Source",
    "Summary",
    "embedding_job",
    "find_sources",
]
