"""The reference model: the paper in PyTorch, in reading order.

char_cnn -> lstm -> bilm -> layer_mix -> pooling -> elmo.
"""

from elmo_deploy.model.elmo import Elmo, ElmoOutput
from elmo_deploy.model.lstm import LstmState

__all__ = ["Elmo", "ElmoOutput", "LstmState"]
