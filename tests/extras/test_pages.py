"""The code of the README and the docs runs in the environment that a user would install.

Each page runs from top to bottom in one directory. The first lines of the README failed in the
environment that they described, and worked in that of the tests.
"""

from __future__ import annotations

import re

import pytest
from pages import EXTRAS, PAGES, ROOT, blocks

pytestmark = pytest.mark.extras
RUNNABLE = [page for page in PAGES if any(not block.why_not_run for block in blocks(page))]


@pytest.mark.parametrize("page", RUNNABLE, ids=[str(page.relative_to(ROOT)) for page in RUNNABLE])
def test_the_code_of_a_page_runs(page, environment, workplace):
    for block in blocks(page):
        if block.why_not_run:
            continue
        place = environment(block.environment)
        run = place.shell if block.language == "sh" else place.python
        answer = run(block.text, workplace)
        assert answer.returncode == 0, f"{block.text}\n{answer.stdout}\n{answer.stderr}"


def test_a_failing_command_is_found(environment, workplace):
    """Negative control: a later command does not hide the failure of an earlier one."""
    script = "elmo-deploy embed absent sentences.txt -o vectors.npz\nelmo-deploy --version\n"
    assert environment("cpu").shell(script, workplace).returncode == 5


def test_the_readme_is_run_and_names_existing_extras():
    readme = ROOT / "README.md"
    assert readme in RUNNABLE
    named = set(re.findall(r"elmo-deploy\[([\w,-]+)\]", readme.read_text("utf-8")))
    assert "cpu" in named
    assert any(set(names.split(",")) in EXTRAS.values() for names in named)
