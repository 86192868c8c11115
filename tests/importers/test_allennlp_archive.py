"""The ELMo inside an AllenNLP `model.tar.gz`."""

from __future__ import annotations

import io
import json
import tarfile

import pytest

from elmo_deploy.importers.allennlp_archive import import_archive
from elmo_runtime.errors import ConfigError, WeightsError

PLACE = "model.text_field_embedder.token_embedders.elmo."
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


@pytest.fixture
def members(published):
    return {
        "config.json": json.dumps(config()).encode(),
        "weights.th": b"a pickle that nobody opens",
        f"fta/{PLACE}options_file": published.options.read_bytes(),
        f"fta/{PLACE}weight_file": published.weights.read_bytes(),
    }


def refusal(path, error=WeightsError):
    with pytest.raises(error) as caught:
        import_archive(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_elmo_is_found_and_imported(members, tiny_checkpoint, tmp_path):
    found = import_archive(archive(tmp_path / "model.tar.gz", members))
    assert found.config == tiny_checkpoint.config
    assert all((found.tensors[n] == tensor).all() for n, tensor in tiny_checkpoint.tensors.items())


def test_names_that_begin_with_a_dot_are_the_same_names(members, tmp_path):
    import_archive(archive(tmp_path / "m.tar.gz", {f"./{n}": c for n, c in members.items()}))


def test_without_its_files_it_says_which_to_import_by_hand(members, tmp_path):
    del members[f"fta/{PLACE}weight_file"]
    message = refusal(archive(tmp_path / "model.tar.gz", members))
    assert f"fta/{PLACE}weight_file is not inside" in message
    assert "it names: https://x/options.json, https://x/weights.hdf5" in message


def test_a_fine_tuned_elmo_is_not_taken_for_the_one_before_tuning(members, tmp_path):
    members["config.json"] = json.dumps(config({**ELMO, "requires_grad": True})).encode()
    assert "fine-tuned" in refusal(archive(tmp_path / "model.tar.gz", members))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"model": {}}, "describes 0 ELMos"),
        ({"one": config(), "two": config()}, "describes 2 ELMos"),
        ([], "describes 0 ELMos"),
    ],
)
def test_an_archive_of_no_elmo_or_of_two_is_refused(members, tmp_path, content, reason):
    members["config.json"] = json.dumps(content).encode()
    assert reason in refusal(archive(tmp_path / "model.tar.gz", members))


@pytest.mark.parametrize("content", [b"{", b"[" * 100_000, b" " * (1 << 21), None])
def test_a_config_that_is_none_is_refused(members, tmp_path, content):
    del members["config.json"]
    if content is not None:
        members["config.json"] = content
    assert "config.json" in refusal(archive(tmp_path / "model.tar.gz", members))


def test_a_link_is_not_followed_out_of_the_archive(members, published, tmp_path):
    link = tarfile.TarInfo(f"fta/{PLACE}weight_file")
    link.type, link.linkname = tarfile.SYMTYPE, str(published.weights)
    members[link.name] = link
    assert "is not inside" in refusal(archive(tmp_path / "model.tar.gz", members))


def test_a_member_that_claims_terabytes_is_refused_before_it_is_unpacked(members, tmp_path):
    path = archive(tmp_path / "model.tar", members)
    huge = tarfile.TarInfo("vocabulary/tokens.txt")
    huge.size = 1 << 42
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(huge)  # the header alone
    assert "bytes are inside" in refusal(path)


def test_a_wrong_file_inside_is_told_by_the_name_of_the_archive(members, tmp_path):
    members[f"fta/{PLACE}weight_file"] = b"not HDF5"
    message = refusal(archive(tmp_path / "model.tar.gz", members))
    assert message.startswith(f"{tmp_path}/model.tar.gz: weights.hdf5 cannot be read as HDF5")
    members[f"fta/{PLACE}options_file"] = b"{}"
    message = refusal(archive(tmp_path / "model.tar.gz", members), ConfigError)
    assert message.startswith(f"{tmp_path}/model.tar.gz: ")


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_a_truncated_archive_is_refused(members, tmp_path, share):
    path = archive(tmp_path / "model.tar.gz", members)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "cannot be read as a .tar.gz" in refusal(path)
    path.unlink()
    assert "is not a file" in refusal(path)
