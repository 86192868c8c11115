"""Text -> a trained checkpoint: vocabulary, corpus, losses, the loop, evaluation."""
