"""torch.nn.LSTM(proj_size) computes ELMo exactly where no clip binds, and only there."""

from __future__ import annotations

import pytest
import torch

from elmo_deploy.benchmark.subject import Subject
from elmo_deploy.benchmark.systems.pytorch import TorchRunner, open_reference, open_substitute
from random_models import random_checkpoint, tiny_config
from tolerances import TORCH_FLOAT32

SENTENCES = [("the", "cat", "sat"), ("dogs",), ("a", "b", "c", "d", "e")]


@pytest.fixture
def opened(tmp_path):
    """Reference and substitute of one checkpoint."""

    def open_both(**changes: object) -> tuple[TorchRunner, TorchRunner]:
        folder = tmp_path / "checkpoint"
        random_checkpoint(tiny_config(**changes)).write(folder)
        subject = Subject(tmp_path / "unused", folder)
        return open_reference(subject), open_substitute(subject)

    return open_both


@pytest.mark.parametrize("skip", [True, False])
def test_without_clips_it_is_the_reference(opened, skip):
    reference, substitute = opened(cell_clip=None, proj_clip=None, use_skip_connections=skip)
    difference = abs(reference.embed(SENTENCES) - substitute.embed(SENTENCES)).max()
    assert difference < TORCH_FLOAT32


def test_with_clips_that_bind_it_is_not(opened):
    reference, substitute = opened(cell_clip=0.05, proj_clip=0.05)
    assert abs(reference.embed(SENTENCES) - substitute.embed(SENTENCES)).max() > 0.01


def test_its_stages_add_up_to_the_call(opened):
    _, substitute = opened()
    stages = substitute.stages(SENTENCES)
    assert set(stages) == {"characters", "CNN", "LSTM", "copy"}
    assert all(seconds >= 0 for seconds in stages.values())


def test_its_stages_leave_no_hooks_behind(opened):
    _, substitute = opened()
    substitute.stages(SENTENCES)
    assert not any(part._forward_hooks for part in substitute.model.modules())
    assert torch.is_grad_enabled()
