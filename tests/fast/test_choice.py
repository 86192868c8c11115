"""`fast` chooses between the definitions and the hand-written gradients in every model."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch

import elmo_deploy
import oracle
from elmo_deploy.fast.lstm import FastLstm
from elmo_deploy.model import Elmo
from elmo_deploy.model.lstm import ProjectedLstm
from elmo_deploy.training.language_model import LanguageModel
from elmo_deploy.training.softmax import SampledSoftmax, draw_negatives
from elmo_runtime.characters import char_ids
from random_models import clipped_checkpoint, tiny_config

ROOM = Path(elmo_deploy.__file__).parent / "fast"
SENTENCES = [["The", "cat", "日本語"], ["sat"], []]


def embedded(fast):
    checkpoint = clipped_checkpoint()
    model = Elmo.from_checkpoint(checkpoint, requires_grad=True, fast=fast).double()
    layers = {type(m) for m in model.modules() if isinstance(m, ProjectedLstm)}
    assert layers == {FastLstm if fast else ProjectedLstm}
    out = model(torch.tensor(oracle.padded_ids(SENTENCES)))
    (out.elmo[0].sin().sum() + out.state.c.sin().sum()).backward()
    return [*out.layers, *out.state, *(weight.grad for weight in model.parameters())]


def test_elmo_computes_the_same_either_way(assert_same):
    assert_same(embedded(fast=True), embedded(fast=False))


def losses_and_gradients(fast):
    model = LanguageModel(tiny_config(cell_clip=0.3), 12, fast=fast).double()
    model.reset_parameters(torch.Generator().manual_seed(0))
    words = [torch.from_numpy(char_ids(["a", "bb", "c" * 60]).astype(np.int64))]
    words = [words[0][:2, :12], words[0][2:]]
    positions = torch.tensor([[[0, 1, 2], [2, 1, 0]], [[1, 1, 0], [0, 2, 2]]])
    targets = (positions + 5) % 12
    negatives = [draw_negatives(6, 12, np.random.default_rng(d)) for d in range(2)]
    softmax = SampledSoftmax(model.softmax, targets, negatives, fast=fast)
    hidden = model(words, positions, model.zero_state(2))
    losses = [softmax.loss(hidden.vectors[d].flatten(0, 1), d) for d in range(2)]
    torch.stack(losses).sin().sum().backward()
    learned = [w.grad for name, w in model.named_parameters() if not name.startswith("softmax")]
    return [*losses, *hidden.state, *learned, *(g.values for g in softmax.gradients().values())]


def test_the_language_model_computes_the_same_either_way(assert_same):
    assert_same(losses_and_gradients(fast=True), losses_and_gradients(fast=False))


def test_the_definition_can_be_differentiated_twice():
    model = Elmo(tiny_config(), requires_grad=True, fast=False)
    out = model(torch.tensor(oracle.padded_ids(SENTENCES))).default[0].sum()
    (first,) = torch.autograd.grad(
        out, [model.bilm.forward_stack.layers[0].bias], create_graph=True
    )
    first.square().sum().backward()
    assert model.bilm.forward_stack.layers[0].bias.grad.abs().sum() > 0


def written_by_hand(path):
    """The names of the autograd functions that a file defines."""
    classes = [node for node in ast.walk(ast.parse(path.read_text("utf-8")))
               if isinstance(node, ast.ClassDef)]  # fmt: skip
    return [c.name for c in classes if any("autograd.Function" in ast.unparse(b) for b in c.bases)]


def test_every_hand_written_gradient_is_in_the_fast_room():
    """One of them was in training/softmax.py, where no reader looked for it."""
    found = {path for path in ROOM.parent.rglob("*.py") if written_by_hand(path)}
    assert {path.parent for path in found} == {ROOM}
    assert {path.stem for path in found} == {"lstm", "convolution", "log_sum_exp"}


@pytest.mark.parametrize("module", sorted(path.stem for path in ROOM.glob("[a-z]*.py")))
def test_every_module_of_the_room_has_its_proof(module):
    assert (Path(__file__).parent / f"test_{module}.py").is_file()
