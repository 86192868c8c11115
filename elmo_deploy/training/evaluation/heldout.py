"""Held-out text -> the perplexity of a model in training, from carried and from zero states."""

from __future__ import annotations

import math
from collections.abc import Sequence

from elmo_deploy.training.data.batches import Lexicon
from elmo_deploy.training.data.shards import Shard, read_all_sentences
from elmo_deploy.training.evaluation.perplexity import Evaluator
from elmo_deploy.training.language_model import LanguageModel
from elmo_deploy.training.run.metrics import HeldoutMetrics
from elmo_runtime.errors import InputError

MAX_ROWS, SENTENCES_PER_ROW = 256, 8
MAX_LOSS = 700.0  # exp of more overflows


class HeldoutText:
    """Text that a run does not learn from. Raises InputError if it contains no sentence."""

    def __init__(self, shards: Sequence[Shard], lexicon: Lexicon) -> None:
        self._shards = shards
        self._lexicon = lexicon
        n_sentences = sum(1 for _ in read_all_sentences(shards))
        if n_sentences == 0:
            raise InputError("the held-out files contain no sentence")
        # Rows that run out of sentences end the evaluation early and leave text unread.
        self.n_rows = min(MAX_ROWS, max(1, n_sentences // SENTENCES_PER_ROW))

    def measure(self, model: LanguageModel, step: int) -> HeldoutMetrics:
        """Evaluate the model without dropout, then return it to training mode."""
        model.eval()
        try:
            evaluator = Evaluator(model, self._lexicon)
            carried = evaluator.perplexity(self._shards, self.n_rows)
            forward, backward = self._zero_state_losses(evaluator)
        finally:
            model.train()
        return HeldoutMetrics(
            step=step,
            perplexity=_exp((carried.forward_loss + carried.backward_loss) / 2),
            forward_perplexity=_exp(carried.forward_loss),
            backward_perplexity=_exp(carried.backward_loss),
            zero_state_perplexity=_exp((forward + backward) / 2),
            forward_zero_state_perplexity=_exp(forward),
            backward_zero_state_perplexity=_exp(backward),
            unknown_share=carried.unknown_share,
        )

    def _zero_state_losses(self, evaluator: Evaluator) -> tuple[float, float]:
        """Forward and backward, nats per token; one boundary token per sentence counts."""
        forward = backward = 0.0
        n_tokens = 0
        for scored in evaluator.scores(read_all_sentences(self._shards)):
            forward, backward = forward - scored.forward, backward - scored.backward
            n_tokens += scored.n_tokens + 1
        return forward / n_tokens, backward / n_tokens


def _exp(loss: float) -> float:
    return math.exp(min(loss, MAX_LOSS))
