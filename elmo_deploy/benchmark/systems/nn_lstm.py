"""The common substitute: ELMo's LSTMs replaced by torch.nn.LSTM(proj_size=...). Not exact.

It is the usual way to a fast ELMo in plain PyTorch: the same character CNN, and a padded batch
through pack_padded_sequence. It clips neither the cell nor the projection, so it computes ELMo only
where no clip binds.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from elmo_deploy.model.bilm import BiLm, LstmStack, mask_of, reverse_within, take_time
from elmo_deploy.model.elmo import Elmo, add_sentence_marks, lengths_of
from elmo_deploy.model.lstm import ProjectedLstm


class Substitute(nn.Module):
    """The weights of an Elmo in stock modules; returns the plain mean of the layers."""

    def __init__(self, elmo: Elmo) -> None:
        super().__init__()
        self.char_cnn = elmo.char_cnn
        self.bilm = SubstituteBiLm(elmo.bilm)

    def forward(self, char_ids: Tensor) -> Tensor:
        """Shifted ids (batch, length, characters), 0 past a sentence -> (batch, length, 2P)."""
        lengths = lengths_of(char_ids)
        layers = self.bilm(self.char_cnn(add_sentence_marks(char_ids, lengths)), lengths + 2)
        mean = torch.stack(layers).mean(dim=0)[:, 1:-1]
        return mean * mask_of(lengths, char_ids.shape[1]).unsqueeze(-1)


class SubstituteBiLm(nn.Module):
    """Both directions, each a stack of nn.LSTM over a packed batch."""

    def __init__(self, bilm: BiLm) -> None:
        super().__init__()
        self.skip = bilm.config.use_skip_connections
        self.directions = nn.ModuleList(
            stock_layers(stack) for stack in (bilm.forward_stack, bilm.backward_stack)
        )

    def forward(self, tokens: Tensor, lengths: Tensor) -> list[Tensor]:
        """Token vectors (batch, length, P) -> layers 0..n of (batch, length, 2P)."""
        reverse = reverse_within(lengths, tokens.shape[1])
        ahead, back = self.directions
        forward = self.run(ahead, tokens, lengths)
        backward = [
            take_time(y, reverse) for y in self.run(back, take_time(tokens, reverse), lengths)
        ]
        pairs = zip(forward, backward, strict=True)
        return [torch.cat([tokens, tokens], dim=-1), *(torch.cat(pair, dim=-1) for pair in pairs)]

    def run(self, layers: nn.Module, tokens: Tensor, lengths: Tensor) -> list[Tensor]:
        """Each layer's output (batch, length, P), 0 past each length."""
        packed = pack_padded_sequence(tokens, lengths.cpu(), batch_first=True, enforce_sorted=False)
        outputs = []
        for depth, layer in enumerate(layers.children()):
            hidden, _ = layer(packed)
            if self.skip and depth > 0:
                hidden = PackedSequence(
                    hidden.data + packed.data,
                    hidden.batch_sizes,
                    hidden.sorted_indices,
                    hidden.unsorted_indices,
                )
            packed = hidden
            outputs.append(pad_packed_sequence(packed, True, total_length=tokens.shape[1])[0])
        return outputs


def stock_layers(stack: LstmStack) -> nn.ModuleList:
    """One nn.LSTM(proj_size) per layer, with the layer's weights."""
    layers = [layer for layer in stack.layers if isinstance(layer, ProjectedLstm)]
    return nn.ModuleList(stock_layer(layer) for layer in layers)


def stock_layer(layer: ProjectedLstm) -> nn.LSTM:
    """The same weights in torch's layout; the bias includes the 1 of sigmoid(f + 1)."""
    projection, gates = layer.recurrent_weight.shape
    stock = nn.LSTM(projection, gates // 4, proj_size=projection, batch_first=True)
    i, g, f, o = layer.bias.detach().chunk(4)
    weights = {
        "weight_ih_l0": torch_order(layer.input_weight),
        "weight_hh_l0": torch_order(layer.recurrent_weight),
        "weight_hr_l0": layer.projection_weight.detach().T,
        "bias_ih_l0": torch.cat([i, f + 1.0, g, o]),
        "bias_hh_l0": torch.zeros(gates),
    }
    stock.load_state_dict(weights)
    return stock.requires_grad_(False)


def torch_order(weight: Tensor) -> Tensor:
    """(P, 4C) in the file's order i, g, f, o -> (4C, P) in i, f, g, o."""
    i, g, f, o = weight.detach().chunk(4, dim=-1)
    return torch.cat([i, f, g, o], dim=-1).T
