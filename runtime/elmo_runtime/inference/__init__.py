"""One call: from checked sentences through batches and the word cache to collected outputs."""
