"""Text -> a trained checkpoint: vocabulary, corpus, losses, the loop, evaluation."""

from elmo_deploy.training.evaluate import Evaluation, SentenceScore, evaluate, score
from elmo_deploy.training.options import TrainingOptions
from elmo_deploy.training.train import TrainingResult, train
from elmo_deploy.training.vocabulary import Vocabulary

__all__ = [
    "Evaluation",
    "SentenceScore",
    "TrainingOptions",
    "TrainingResult",
    "Vocabulary",
    "evaluate",
    "score",
    "train",
]
