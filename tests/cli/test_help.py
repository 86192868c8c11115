"""The help texts and the names of options."""

from __future__ import annotations

import importlib
import re

import pytest
import typer

from elmo_deploy.cli import VERBS, app

WIDE = 400  # columns: no text is folded


def words_of(text: str) -> list[str]:
    """The words of a text without the frames that rich draws around it."""
    return re.sub(r"[│╭╮╰╯─]", " ", text).split()


def help_of(command: str, run, monkeypatch) -> str:
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", WIDE)
    answer = run(command, "--help")
    assert answer.code == 0
    return " ".join(words_of(answer.stdout))


def parameters_of(command: str):
    return typer.main.get_command(app).get_command(None, command).params


@pytest.mark.parametrize("command", VERBS)
def test_a_help_text_is_shown_whole(command, run, monkeypatch):
    """Nine texts lost their "[default: ...]": rich read it as markup and dropped it."""
    shown = help_of(command, run, monkeypatch)
    for parameter in parameters_of(command):
        if not getattr(parameter, "hidden", False):
            assert " ".join(words_of(parameter.help)) in shown


@pytest.mark.parametrize("command", VERBS)
def test_every_option_is_described(command):
    """`benchmark --batch` was described by its lost default only, so by nothing."""
    for parameter in parameters_of(command):
        if not getattr(parameter, "hidden", False):
            assert re.search(r"[a-z]{3}", re.sub(r"\[.*?\]", "", parameter.help)), parameter.name


@pytest.mark.parametrize(
    ("command", "default"),
    [
        ("benchmark", "everything that runs here"),
        ("benchmark", "the first"),
        ("benchmark", "1, 8, 32"),
        ("benchmark", "8, 25"),
        ("build-engine", "buckets from 8 to 128, and one plan up to 2048"),
        ("build-engine", "this GPU's"),
        ("export", "fp32"),
        ("train", "the one of --from"),
        ("train", "with --from, the paper's recipe"),
    ],
)
def test_a_default_that_is_computed_is_shown(command, default, run, monkeypatch):
    assert f"[default: ({default})]" in help_of(command, run, monkeypatch)


def test_the_default_of_build_engine_is_the_one_of_the_profiles():
    profiles = importlib.import_module("elmo_export.engines.profiles")
    (batch,) = (p for p in parameters_of("build-engine") if p.name == "batch")
    assert str(profiles.TOKEN_BUDGET) in batch.show_default


@pytest.mark.filterwarnings("default::FutureWarning")
@pytest.mark.parametrize(
    ("old", "new", "value"),
    [("--output", "--outputs", "default"), ("--batch", "--token-budget", "100")],
)
def test_an_option_may_have_its_old_name(old, new, value, run, bundle, tmp_path):
    """`--output` stood beside `--out`, and `--batch` meant tokens in this command only."""
    text = b"the cat\n"
    answer = run("embed", bundle, "-", "-o", tmp_path / "old.npz", old, value, typed=text)
    assert answer.code == 0
    assert f"warning: {old} is now called {new}" in answer.stderr
    answer = run("embed", bundle, "-", "-o", tmp_path / "new.npz", new, value, typed=text)
    assert answer.code == 0 and "warning" not in answer.stderr
    assert (tmp_path / "old.npz").read_bytes() == (tmp_path / "new.npz").read_bytes()
    both = run("embed", bundle, "-", "-o", tmp_path / "o.npz", old, value, new, value, typed=text)
    assert both.code == 2 and f"{old} is the old name of {new}" in both.stderr


def test_rows_without_a_carried_state_are_refused(run, bundle, tmp_path):
    """`--rows 3` with state zero was ignored in silence."""
    out = tmp_path / "out.npz"
    answer = run("embed", bundle, "-", "-o", out, "--rows", 3, typed=b"the cat\n")
    assert answer.code == 2
    assert "--rows 3 has no meaning with --state zero" in answer.stderr
    assert not out.exists()


def test_several_outputs_need_a_folder(run, bundle, tmp_path):
    """The list was looked up as one name: "output 'elmo,default' does not exist"."""
    out = tmp_path / "out.npz"
    answer = run("embed", bundle, "-", "-o", out, "--outputs", "elmo,default", typed=b"the cat\n")
    assert answer.code == 2 and "takes one output" in answer.stderr and "folder" in answer.stderr
