"""Help texts, and old and new names of options."""

from __future__ import annotations

import importlib
import re

import pytest
import typer

from elmo_deploy.cli import COMMANDS, app

WIDE = 400  # Columns, so that no text is folded.


def words_of(text: str) -> list[str]:
    """The words of a text without the frames of rich."""
    return re.sub(r"[│╭╮╰╯─]", " ", text).split()


def help_of(command: str, run, monkeypatch) -> str:
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", WIDE)
    answer = run(command, "--help")
    assert answer.code == 0
    return " ".join(words_of(answer.stdout))


def parameters_of(command: str):
    return typer.main.get_command(app).get_command(None, command).params


@pytest.mark.parametrize("command", COMMANDS)
def test_a_help_text_is_complete(command, run, monkeypatch):
    """Nine texts lost their "[default: ...]", which rich read as markup."""
    shown = help_of(command, run, monkeypatch)
    for parameter in parameters_of(command):
        if not getattr(parameter, "hidden", False):
            assert " ".join(words_of(parameter.help)) in shown


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_described(command):
    """The description of `benchmark --batch` was its default only, and the default was lost."""
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
        ("train", "that of --from"),
        ("train", "with --from, the recipe of the paper"),
    ],
)
def test_a_default_that_is_computed_is_shown(command, default, run, monkeypatch):
    assert f"[default: ({default})]" in help_of(command, run, monkeypatch)


def test_the_default_of_build_engine_is_that_of_the_profiles():
    profiles = importlib.import_module("elmo_export.engines.profiles")
    (batch,) = (p for p in parameters_of("build-engine") if p.name == "batch")
    assert str(profiles.TOKEN_BUDGET) in batch.show_default


@pytest.mark.filterwarnings("default::FutureWarning")
@pytest.mark.parametrize(
    ("old", "new", "value"),
    [("--output", "--outputs", "default"), ("--batch", "--token-budget", "100")],
)
def test_an_old_name_of_an_option_warns(old, new, value, run, bundle, tmp_path):
    """`--output` was easy to confuse with `--out`, and `--batch` meant tokens only in `embed`."""
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
    """`--rows 3` with the state `zero` was ignored without a message."""
    out = tmp_path / "out.npz"
    answer = run("embed", bundle, "-", "-o", out, "--rows", 3, typed=b"the cat\n")
    assert answer.code == 2
    assert "--rows 3 has no effect with --state zero" in answer.stderr
    assert not out.exists()


def test_several_outputs_need_a_directory(run, bundle, tmp_path):
    """The list was read as one name: "output 'elmo,default' does not exist"."""
    out = tmp_path / "out.npz"
    answer = run("embed", bundle, "-", "-o", out, "--outputs", "elmo,default", typed=b"the cat\n")
    assert answer.code == 2 and "takes one output" in answer.stderr and "directory" in answer.stderr


def test_the_exit_codes_are_listed(run):
    """Only the README listed them."""
    listed = run("--help").stdout.partition("Exit codes:")[2]
    assert re.findall(r"^\s*(\d+)  [A-Za-z]", listed, re.M) == ["0", "1", "2", "3", "4", "5", "130"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_json(command):
    """`import` and `vocabulary` had no `--json`."""
    assert any("--json" in parameter.opts for parameter in parameters_of(command))


@pytest.mark.filterwarnings("default::FutureWarning")
def test_the_old_names_of_the_compiler_and_the_training_text_warn(run, bundle, tmp_path):
    answer = run("build-engine", bundle, "--flavour", "tensorrt", "--length", "0")
    assert answer.code == 2 and "--flavour is now called --compiler" in answer.stderr
    answer = run("train", "--train", "none*", "-o", tmp_path / "run")
    assert answer.code != 0 and "--train is now called --text" in answer.stderr
    answer = run("train", "-o", tmp_path / "run")
    assert answer.code == 2 and "--text 'shards/*.txt'" in answer.stderr
