"""Text -> a trained checkpoint: vocabulary, corpus, losses, training loop and evaluation."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elmo_deploy.training.data.vocabulary import Vocabulary
    from elmo_deploy.training.evaluation.perplexity import (
        Evaluation,
        SentenceScore,
        evaluate,
        score,
    )
    from elmo_deploy.training.evaluation.predictions import (
        Prediction,
        Substitutes,
        TokenScore,
        score_tokens,
        substitutes,
    )
    from elmo_deploy.training.loop import TrainingResult, train
    from elmo_deploy.training.options import TrainingOptions

__all__ = [
    "Evaluation",
    "Prediction",
    "SentenceScore",
    "Substitutes",
    "TokenScore",
    "TrainingOptions",
    "TrainingResult",
    "Vocabulary",
    "evaluate",
    "score",
    "score_tokens",
    "substitutes",
    "train",
]

# Imported at their first use, so that a vocabulary can be counted without torch.
_MODULE_OF = {
    "Evaluation": "evaluation.perplexity",
    "Prediction": "evaluation.predictions",
    "SentenceScore": "evaluation.perplexity",
    "Substitutes": "evaluation.predictions",
    "TokenScore": "evaluation.predictions",
    "TrainingOptions": "options",
    "TrainingResult": "loop",
    "Vocabulary": "data.vocabulary",
    "evaluate": "evaluation.perplexity",
    "score": "evaluation.perplexity",
    "score_tokens": "evaluation.predictions",
    "substitutes": "evaluation.predictions",
    "train": "loop",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF})
