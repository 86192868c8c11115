"""Help texts of the options that every command which reads text has."""

FORMAT = "Format of the text: text, jsonl, parquet, fasta or conllu; auto goes by the suffix."
TEXT_FIELD = "JSON lines and Parquet: field with the text or its tokens."
