"""The Python code of the README and the docs is run, and their commands are parsed."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
import typer

from elmo_deploy.cli import app
from elmo_deploy.importers.bilm_hdf5 import export_hdf5
from elmo_export.checkpoint import Checkpoint

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(language):
    """The text of each block of this language."""
    blocks = []
    for page in PAGES:
        found = re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)
        for number, text in enumerate(found, start=1):
            blocks.append(pytest.param(text, id=f"{page.stem}-{number}"))
    return blocks


@pytest.mark.parametrize("program", blocks("python"))
def test_the_python_of_the_docs_runs(program, run, bundle, model, tmp_path, monkeypatch):
    code = compile(program, "docs", "exec")
    if cluster := re.search(r"^(?:import|from) (ray|pyspark)\b", program, re.M):
        pytest.skip(f"{cluster[1]} is no dependency of the tests; this block was compiled only")
    shutil.copytree(bundle, tmp_path / "bundle")
    shutil.copytree(model, tmp_path / "checkpoint")
    export_hdf5(Checkpoint.read(model), tmp_path / "options.json", tmp_path / "weights.hdf5")
    monkeypatch.chdir(tmp_path)
    assert run("embed", bundle, "-", "-o", "vectors", typed=b"the cat is on the mat\n").code == 0
    exec(code, {})


@pytest.mark.parametrize("script", blocks("sh"))
def test_the_commands_of_the_docs_have_these_options(script):
    group = typer.main.get_command(app)
    for line in script.splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["elmo-deploy"]:
            command = group.get_command(None, words[1])
            command.make_context(words[1], words[2:])


def test_the_first_lines_of_the_readme_print_what_it_shows(capsys, tmp_path, monkeypatch):
    """They needed a bundle that nobody had, and their output was not shown."""
    program, shown = re.findall(
        r"^```(?:python|text)\n(.*?)^```", (ROOT / "README.md").read_text("utf-8"), re.M | re.S
    )
    monkeypatch.chdir(tmp_path)
    exec(compile(program, "README", "exec"), {})
    printed = capsys.readouterr().out
    assert [line.split()[0] for line in printed.splitlines()] == ["cosine", "cosine"]
    # int8 products differ in the last bits between processors.
    assert numbers(printed) == pytest.approx(numbers(shown), abs=0.02)


def numbers(text):
    return [float(number) for number in re.findall(r"\d\.\d+", text)]


def test_the_readme_stays_a_front_page():
    """It had 237 lines, and the first code of a user was on the third screen."""
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    assert len(lines) <= 100
    assert lines.index("```python") < 25


def test_the_readme_and_the_makefile_name_the_same_commands():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    named = set(re.findall(r"^make (\w+)", (ROOT / "README.md").read_text("utf-8"), re.M))
    assert named == {"demo", "test"} and named <= targets
