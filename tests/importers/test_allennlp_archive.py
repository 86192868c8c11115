"""The ELMo in an AllenNLP `model.tar.gz`."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
import zipfile

import numpy as np
import pytest
import torch

from elmo_deploy.importers.allennlp_archive import import_archive
from elmo_deploy.importers.allennlp_layout import EMBEDDING, entries
from elmo_deploy.importers.bilm_hdf5 import export_hdf5
from elmo_deploy.model import Elmo
from elmo_runtime.errors import ConfigError, WeightsError
from random_models import random_checkpoint, tiny_config
from tolerances import GOLDEN_TORCH

PLACE = "model.text_field_embedder.token_embedders.elmo."
MODULE = "text_field_embedder.token_embedder_elmo._elmo."
ELMO = {"options_file": "https://x/options.json", "weight_file": "https://x/weights.hdf5"}


def config(elmo=ELMO):
    embedders = {"elmo": {"type": "elmo_token_embedder", **elmo}, "tokens": {"type": "embedding"}}
    return {"model": {"text_field_embedder": {"token_embedders": embedders}}}


def archive(path, members):
    """Member names -> bytes, or a ready TarInfo; written as AllenNLP writes its archives."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return path


def state(checkpoint, mixes=1):
    """The state dict of a tagger that contains this ELMo, under AllenNLP's names."""
    found = {"encoder.weight_ih_l0": torch.ones(3, 3)}
    for entry in entries(checkpoint.config):
        array = entry.layout.to_file(*(checkpoint.tensors[name] for name in entry.tensors))
        found[MODULE + entry.name] = torch.from_numpy(np.ascontiguousarray(array))
    for number in range(mixes):
        mix = f"{MODULE}scalar_mix_{number}."
        found[f"{mix}gamma"] = torch.tensor([2.0 + number])
        for layer in range(checkpoint.config.n_layers + 1):
            found[f"{mix}scalar_parameters.{layer}"] = torch.tensor([layer / 2])
    return found


def saved(tensors, **options):
    file = io.BytesIO()
    torch.save(tensors, file, **options)
    return file.getvalue()


@pytest.fixture
def members(published, tiny_checkpoint):
    return {
        "config.json": json.dumps(config()).encode(),
        "weights.th": saved(state(tiny_checkpoint)),
        f"fta/{PLACE}options_file": published.options.read_bytes(),
        f"fta/{PLACE}weight_file": published.weights.read_bytes(),
    }


def refusal(path, error=WeightsError, **options):
    with pytest.raises(error) as caught:
        import_archive(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def assert_same(found, checkpoint):
    """Equal but for the forget bias: adding 1 in float32 and subtracting it rounds by 6e-8."""
    assert found.config == checkpoint.config
    for name, tensor in checkpoint.tensors.items():
        np.testing.assert_allclose(found.tensors[name], tensor, rtol=0, atol=1.2e-7, err_msg=name)


def test_an_archive_of_allennlp_gives_its_vectors(shared_data):
    """Archives since 2020 could not be imported, and the trained mix never was."""
    folder = shared_data / "migration-golden" / "allennlp-archive"
    golden = np.load(folder / "golden.npz")
    options = shared_data / "elmo-fixtures" / "allennlp" / "options.json"
    checkpoint = import_archive(folder / "model.tar.gz", options=options)
    [mix] = checkpoint.mixes
    assert (mix.name, mix.gamma) == ("elmo", pytest.approx(float(golden["gamma"])))
    assert mix.weights == pytest.approx(golden["mix_weights"].tolist())
    with torch.no_grad():
        found = Elmo.from_checkpoint(checkpoint)(torch.from_numpy(golden["ids"])).elmo[0]
    np.testing.assert_allclose(found, golden["vectors"], rtol=0, atol=GOLDEN_TORCH)


def test_without_options_the_refusal_names_what_is_missing(shared_data):
    folder = shared_data / "migration-golden" / "allennlp-archive"
    message = refusal(folder / "model.tar.gz")
    assert "weights.th does not contain the cell clip, the projection clip, the skip" in message
    assert "config.json names: https://example.org/elmo/options.json" in message


@pytest.mark.parametrize("legacy", [False, True])
def test_the_trained_elmo_is_imported(members, tiny_checkpoint, tmp_path, legacy):
    """A fine-tuned ELMo was refused, because only weights.th contains its weights."""
    members["config.json"] = json.dumps(config({**ELMO, "requires_grad": True})).encode()
    tensors = state(tiny_checkpoint)
    members["weights.th"] = saved(tensors, _use_new_zipfile_serialization=not legacy)
    found = import_archive(archive(tmp_path / "model.tar.gz", members))
    assert_same(found, tiny_checkpoint)
    assert [(mix.name, mix.gamma) for mix in found.mixes] == [("elmo", 2.0)]


def test_several_mixes_are_numbered_and_keep_their_layer_norm(members, tiny_checkpoint, tmp_path):
    members["config.json"] = json.dumps(config({**ELMO, "do_layer_norm": True})).encode()
    members["weights.th"] = saved(state(tiny_checkpoint, mixes=2))
    found = import_archive(archive(tmp_path / "model.tar.gz", members)).mixes
    assert [(m.name, m.gamma, m.layer_norm) for m in found] == [
        ("elmo_0", 2.0, True),
        ("elmo_1", 3.0, True),
    ]


def test_an_archive_without_weights_th_gives_the_added_files(members, tiny_checkpoint, tmp_path):
    del members["weights.th"]
    found = import_archive(archive(tmp_path / "model.tar.gz", members))
    assert_same(found, tiny_checkpoint)
    assert not found.mixes


def test_a_directory_is_read_like_an_archive(members, tiny_checkpoint, published, tmp_path):
    folder = tmp_path / "serialization"
    folder.mkdir()
    for name in ("config.json", "weights.th"):
        (folder / name).write_bytes(members[name])
    assert_same(import_archive(folder, options=published.options), tiny_checkpoint)


def test_names_that_begin_with_a_dot_are_the_same_names(members, tmp_path):
    import_archive(archive(tmp_path / "m.tar.gz", {f"./{n}": c for n, c in members.items()}))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({EMBEDDING: None}, "contains 0 ELMos"),
        ({"_elmo_lstm._token_embedder._projection.bias": None}, "_projection.bias of shape (8,)"),
        ({"_elmo_lstm._token_embedder._projection.bias": torch.ones(9)}, "is (9,), the options"),
        ({"_elmo_lstm._token_embedder._projection.bias": torch.full((8,), np.nan)}, "not finite"),
        ({"_elmo_lstm._token_embedder.char_conv_4.bias": torch.ones(9)}, "has no place"),
        ({"scalar_mix_0.gamma": None}, "tensor scalar_mix_0.gamma of shape (1,) is missing"),
        ({"scalar_mix_0.scalar_parameters.3": torch.ones(1)}, "has no place"),
        ({EMBEDDING: torch.ones(262, 4)}, "row 0 is not the padding row"),
        ({EMBEDDING: torch.ones(1).expand(262, 1 << 40)}, "contains 0 ELMos"),
    ],
)
def test_wrong_weights_are_named(members, tiny_checkpoint, tmp_path, change, reason):
    tensors = state(tiny_checkpoint)
    for name, tensor in change.items():
        tensors[MODULE + name] = tensor
        if tensor is None:
            del tensors[MODULE + name]
    members["weights.th"] = saved(tensors)
    assert reason in refusal(archive(tmp_path / "model.tar.gz", members))


def test_weights_of_two_elmos_are_refused(members, tiny_checkpoint, tmp_path):
    tensors = state(tiny_checkpoint)
    tensors |= {f"other.{name}": tensor for name, tensor in tensors.items()}
    members["weights.th"] = saved(tensors)
    assert "contains 2 ELMos" in refusal(archive(tmp_path / "model.tar.gz", members))


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps(3), pickle.dumps({1: 2})])
def test_weights_th_that_torch_did_not_write_is_refused(members, tmp_path, content):
    members["weights.th"] = content
    message = refusal(archive(tmp_path / "model.tar.gz", members))
    assert message.startswith(f"{tmp_path}/model.tar.gz: weights.th c")


def test_weights_th_that_unpacks_to_far_more_than_it_is_are_refused(members, tmp_path):
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data/0", bytes(1 << 22))
    members["weights.th"] = bomb.getvalue()
    assert "far beyond its size" in refusal(archive(tmp_path / "model.tar.gz", members))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"model": {}}, "options_file is not inside"),
        ({"one": config(), "two": config()}, "describes 2 ELMos"),
        ([], "options_file is not inside"),
    ],
)
def test_a_config_of_no_elmo_or_of_two_is_refused(members, tmp_path, content, reason):
    members["config.json"] = json.dumps(content).encode()
    assert reason in refusal(archive(tmp_path / "model.tar.gz", members))


@pytest.mark.parametrize("content", [b"{", b"[" * 100_000, b" " * (1 << 21), None])
def test_a_config_that_is_not_json_is_refused(members, tmp_path, content):
    del members["config.json"]
    if content is not None:
        members["config.json"] = content
    assert "config.json" in refusal(archive(tmp_path / "model.tar.gz", members))


def test_a_link_is_not_followed_out_of_the_archive(members, published, tmp_path):
    link = tarfile.TarInfo(f"fta/{PLACE}options_file")
    link.type, link.linkname = tarfile.SYMTYPE, str(published.options)
    members[link.name] = link
    assert "options_file is not inside" in refusal(archive(tmp_path / "model.tar.gz", members))


def test_a_member_that_claims_terabytes_is_refused_before_it_is_unpacked(members, tmp_path):
    path = archive(tmp_path / "model.tar", members)
    huge = tarfile.TarInfo("vocabulary/tokens.txt")
    huge.size = 1 << 42
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(huge)  # only the header
    assert "bytes are inside" in refusal(path)


def test_a_wrong_file_inside_is_named_with_the_archive(members, tmp_path):
    del members["weights.th"]
    members[f"fta/{PLACE}weight_file"] = b"not HDF5"
    message = refusal(archive(tmp_path / "model.tar.gz", members))
    expected = f"{tmp_path}/model.tar.gz: fta/{PLACE}weight_file cannot be read as HDF5"
    assert message.startswith(expected)
    members[f"fta/{PLACE}options_file"] = b"{}"
    message = refusal(archive(tmp_path / "model.tar.gz", members), ConfigError)
    assert message.startswith(f"{tmp_path}/model.tar.gz: ")


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_a_truncated_archive_is_refused(members, tmp_path, share):
    path = archive(tmp_path / "model.tar.gz", members)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "cannot be read as an archive" in refusal(path)
    path.unlink()
    assert "is not a file" in refusal(path)


def test_every_layer_of_other_sizes_is_mapped(tmp_path):
    checkpoint = random_checkpoint(tiny_config(n_layers=1, n_highway=1, filters=((2, 3), (1, 4))))
    export_hdf5(checkpoint, tmp_path / "o.json", tmp_path / "w.hdf5")
    members = {
        "config.json": json.dumps(config()).encode(),
        "weights.th": saved(state(checkpoint)),
    }
    path = archive(tmp_path / "model.tar.gz", members)
    assert_same(import_archive(path, options=tmp_path / "o.json"), checkpoint)
