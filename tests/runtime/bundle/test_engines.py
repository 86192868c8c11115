"""engine.json, the bytes of plans, and which engines may be opened."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from elmo_runtime.bundle.engines import ENGINE_JSON, engine_folders, read_engine, read_plan
from elmo_runtime.bundle.manifest import Bundle
from elmo_runtime.bundle.trust import is_trusted, ledger_path, record_built_here
from elmo_runtime.errors import EngineError, EngineMismatchError
from engine_bundles import write_fake_engine, write_graphs

DIGEST, OTHER = "a" * 64, "b" * 64


@pytest.fixture(scope="module")
def graphs(tiny_checkpoint, tmp_path_factory):
    return write_graphs(tiny_checkpoint, tmp_path_factory.mktemp("graphs") / "b", precision="fp32")


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def bundle(graphs, tmp_path):
    return shutil.copytree(graphs, tmp_path / "bundle")


@pytest.fixture
def folder(bundle):
    return write_fake_engine(bundle)


def test_an_engine_survives_the_disk(folder):
    engine, _ = read_engine(folder)
    assert engine.to_json() == (folder / ENGINE_JSON).read_text("utf-8")
    assert engine.name == folder.name
    assert all(read_plan(folder, plan) for plan in engine.plans)


def test_the_name_has_the_library_and_the_gpu_and_depends_on_the_build(bundle):
    one = write_fake_engine(bundle, flavour="tensorrt-rtx", version="1.7.1")
    two = write_fake_engine(bundle, flavour="tensorrt-rtx", version="1.7.1", batch=[(1, 1, 4)])
    assert one.name.startswith("tensorrt-rtx-1.7.1-sm86-") and one != two
    assert engine_folders(Bundle.open(bundle)) == tuple(sorted([one, two]))


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(flipped(path.read_bytes())),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes() + b"x"),
        lambda path: path.write_bytes(b""),
        lambda path: path.unlink(),
        lambda path: replace_by_link(path),
        lambda path: replace_by_pipe(path),
    ],
    ids=["flipped", "truncated", "longer", "empty", "missing", "link", "pipe"],
)
def test_a_damaged_plan_is_refused_before_it_is_used(folder, damage):
    engine, _ = read_engine(folder)
    damage(folder / engine.plans[1].file)
    with pytest.raises(EngineError, match=r"plan-1\.plan") as caught:
        read_plan(folder, engine.plans[1])
    assert "again" in caught.value.hint


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.pop("flavour"),
        lambda content: content.update(schema=99),
        lambda content: content.update(plans=[1]),
        lambda content: content["plans"][0].update(file="../../secret"),
        lambda content: content["plans"][0].update(graph="/etc/passwd"),
        lambda content: content["plans"][0]["sizes"].update(words=[1, 2]),
    ],
)
def test_a_malformed_description_is_refused(folder, change):
    content = json.loads((folder / ENGINE_JSON).read_text("utf-8"))
    change(content)
    (folder / ENGINE_JSON).write_text(json.dumps(content), "utf-8")
    with pytest.raises(EngineError):
        read_engine(folder)


def test_an_engine_of_other_graphs_is_stale(folder, bundle):
    engine, _ = read_engine(folder)
    engine.check_fits(Bundle.open(bundle))
    opened = Bundle.open(bundle)
    graph = bundle / engine.plans[1].graph
    graph.write_bytes(flipped(graph.read_bytes()))
    with pytest.raises(EngineMismatchError, match="another graphs/bilm"):
        engine.check_fits(opened)


@pytest.mark.parametrize(
    "here",
    [
        {"flavour": "tensorrt-rtx"},
        {"library_version": "11.3.0"},
        {"compute_capability": "9.0"},
    ],
)
def test_an_engine_of_another_library_or_gpu_names_both(folder, here):
    engine, _ = read_engine(folder)
    built_for = {
        "flavour": "tensorrt",
        "library_version": "11.4.0",
        "compute_capability": "8.6",
    }
    engine.check_runs_on(**built_for)
    with pytest.raises(EngineMismatchError) as caught:
        engine.check_runs_on(**(built_for | here))
    assert "11.4.0" in str(caught.value) and next(iter(here.values())) in str(caught.value)


def test_only_engines_built_here_are_trusted():
    record_built_here(DIGEST)
    assert is_trusted(DIGEST) and not is_trusted(OTHER) and is_trusted(OTHER, [OTHER])


def test_the_ledger_grows_and_is_the_users_own():
    record_built_here(DIGEST)
    record_built_here(OTHER)
    assert is_trusted(DIGEST) and is_trusted(OTHER)
    assert ledger_path().stat().st_mode & 0o777 == 0o600


def test_a_ledger_that_others_may_write_is_ignored():
    record_built_here(DIGEST)
    ledger_path().chmod(0o666)
    assert not is_trusted(DIGEST)


def test_a_ledger_that_is_a_link_is_ignored(tmp_path):
    record_built_here(DIGEST)
    ledger_path().rename(tmp_path / "elsewhere")
    ledger_path().symlink_to(tmp_path / "elsewhere")
    assert not is_trusted(DIGEST)


@pytest.mark.parametrize("value", ["", "relative/path"])
def test_an_invalid_state_home_is_ignored(monkeypatch, tmp_path, value):
    monkeypatch.setenv("XDG_STATE_HOME", value)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert ledger_path() == tmp_path / ".local" / "state" / "elmo-deploy" / "engines.txt"


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def replace_by_link(path):
    path.rename(path.with_suffix(".moved"))
    path.symlink_to(path.with_suffix(".moved"))


def replace_by_pipe(path):
    path.unlink()
    os.mkfifo(path)
