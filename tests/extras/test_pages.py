"""What the README and the docs say is run where a user runs it: in an environment of its extra.

Each page is followed from top to bottom in one folder. The first lines of the README never worked
in the environment that they told the user to install, and worked in the one of the tests.
"""

from __future__ import annotations

import re

import pytest
from pages import EXTRAS, PAGES, ROOT, blocks

pytestmark = pytest.mark.extras
RUNNABLE = [page for page in PAGES if any(not block.why_not_run for block in blocks(page))]


@pytest.mark.parametrize("page", RUNNABLE, ids=[str(page.relative_to(ROOT)) for page in RUNNABLE])
def test_a_page_does_what_it_says(page, environment, workplace):
    for block in blocks(page):
        if block.why_not_run:
            continue
        place = environment(block.environment)
        run = place.shell if block.language == "sh" else place.python
        answer = run(block.text, workplace)
        assert answer.returncode == 0, f"{block.text}\n{answer.stdout}\n{answer.stderr}"


def test_a_command_that_fails_is_noticed(environment, workplace):
    """The control: a later command does not hide the failure of an earlier one."""
    script = "elmo-deploy embed absent sentences.txt -o vectors.npz\nelmo-deploy --version\n"
    assert environment("cpu").shell(script, workplace).returncode == 5


def test_the_readme_is_among_them_and_names_extras_that_exist():
    readme = ROOT / "README.md"
    assert readme in RUNNABLE
    named = set(re.findall(r"elmo-deploy\[([\w,-]+)\]", readme.read_text("utf-8")))
    assert "cpu" in named
    assert any(set(names.split(",")) in EXTRAS.values() for names in named)
