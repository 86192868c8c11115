"""The two forms of `elmo-deploy embed`: one file, or a directory of Parquet parts."""
