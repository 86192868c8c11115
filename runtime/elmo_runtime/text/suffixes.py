"""The suffix of a file name -> the format of its text, or the fix if it is not text."""

from __future__ import annotations

from pathlib import Path

FORMATS = ("text", "jsonl", "parquet", "fasta", "conllu")
SUFFIXES = {
    ".txt": "text",
    ".text": "text",
    ".tok": "text",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".fasta": "fasta",
    ".fa": "fasta",
    ".faa": "fasta",
    ".fas": "fasta",
    ".conllu": "conllu",
}

_ADVICE = {
    "write its sentences to a .txt, .jsonl or .parquet file": (
        ".csv", ".tsv", ".xls", ".xlsx", ".ods", ".arrow", ".feather", ".orc", ".avro", ".sqlite",
        ".db", ".sql",
    ),
    "write one JSON object per line to a .jsonl file": (".json", ".yaml", ".yml", ".toml"),
    "extract its text, one sentence per line, to a .txt file": (
        ".html", ".htm", ".xhtml", ".xml", ".tei", ".svg", ".pdf", ".ps", ".doc", ".docx", ".odt",
        ".rtf", ".epub", ".tex", ".ppt", ".pptx", ".odp", ".srt", ".vtt", ".tmx", ".eml", ".mbox",
    ),
    "convert it to .conllu, or to a .txt file with one sentence per line": (
        ".conll", ".conllx", ".conll03", ".conllup", ".iob", ".iob2", ".bio", ".mrg", ".ptb",
    ),
    "convert it to .fasta": (
        ".fastq", ".fq", ".gb", ".gbk", ".gff", ".gtf", ".embl", ".pdb", ".cif", ".mmcif", ".sto",
        ".aln", ".phy", ".sam", ".bam", ".vcf",
    ),
    "unpack it first, only .gz is read directly": (
        ".bz2", ".xz", ".zst", ".lz4", ".lzma", ".zip", ".tar", ".tgz", ".7z", ".rar", ".z",
    ),
    "name the text that it was made from": (
        ".hdf5", ".h5", ".npy", ".npz", ".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".pkl",
        ".pickle", ".onnx", ".plan", ".png", ".jpg", ".jpeg", ".gif", ".wav", ".mp3", ".mp4",
    ),
}  # fmt: skip
_ADVICE_FOR = {suffix: advice for advice, suffixes in _ADVICE.items() for suffix in suffixes}


def suffix_of(path: Path) -> str:
    """The suffix in lower case, without .gz."""
    name = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    return name.suffix.lower()


def foreign_suffix(path: Path) -> str:
    """The fix for a file that does not contain one sentence per line; "" for other files."""
    return _ADVICE_FOR.get(suffix_of(path), "")
