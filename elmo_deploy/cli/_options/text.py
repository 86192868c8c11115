"""Help texts of the options of every command that reads text."""

FORMAT = "Input format: text, jsonl, parquet, fasta or conllu; auto detects it from the suffix."
TEXT_FIELD = "JSON lines and Parquet: the field with the text or the tokens."
TEXT = (
    "Files, directories or quoted patterns: text with one sentence per line, .jsonl, .parquet,"
    " .fasta or .conllu, plain or .gz."
)
