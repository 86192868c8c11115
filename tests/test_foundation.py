"""The random test models are what the library itself accepts."""

from elmo_export.checkpoint import Checkpoint


def test_a_checkpoint_survives_the_disk(tiny_checkpoint, tmp_path):
    tiny_checkpoint.write(tmp_path / "checkpoint")
    back = Checkpoint.read(tmp_path / "checkpoint")
    assert back.config == tiny_checkpoint.config
    assert all((back.tensors[n] == t).all() for n, t in tiny_checkpoint.tensors.items())
