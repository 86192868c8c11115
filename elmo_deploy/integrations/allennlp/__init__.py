"""AllenNLP's ELMo classes and functions, by their names and arguments.

Examples:
    >>> from elmo_deploy.integrations.allennlp import Elmo, batch_to_ids
    >>> elmo = Elmo("options.json", "weights.hdf5", 1, dropout=0)  # doctest: +SKIP
    >>> elmo(batch_to_ids([["A", "sentence"]]))["elmo_representations"][0].shape  # doctest: +SKIP
    torch.Size([1, 2, 1024])
"""

from elmo_deploy.integrations.allennlp.bilm import remove_sentence_boundaries
from elmo_deploy.integrations.allennlp.elmo import Elmo, ElmoTokenEmbedder, batch_to_ids
from elmo_deploy.integrations.allennlp.embedder import (
    DEFAULT_OPTIONS_FILE,
    DEFAULT_WEIGHT_FILE,
    ElmoEmbedder,
)
from elmo_deploy.integrations.allennlp.scalar_mix import ScalarMix

__all__ = [
    "DEFAULT_OPTIONS_FILE",
    "DEFAULT_WEIGHT_FILE",
    "Elmo",
    "ElmoEmbedder",
    "ElmoTokenEmbedder",
    "ScalarMix",
    "batch_to_ids",
    "remove_sentence_boundaries",
]
