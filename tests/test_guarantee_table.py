"""The table of docs/guarantees.md shows the committed figures of the latest test run."""

import json

import pytest

from guarantee_kit import table
from guarantee_kit.guarantees import GUARANTEES


def test_the_page_shows_the_committed_figures():
    shown = table.section(table.PAGE.read_text("utf-8"))
    assert shown == table.render(json.loads(table.FIGURES.read_text("utf-8")))


def test_every_guarantee_has_a_line():
    shown = table.section(table.PAGE.read_text("utf-8"))
    for guarantee in GUARANTEES:
        assert f"| {guarantee.id} | {guarantee.text} |" in shown


def test_a_failed_test_gives_no_figures(tmp_path):
    report = tmp_path / "report.xml"
    report.write_text(
        '<testsuite><testcase name="t" classname="c" time="1"><failure/><properties>'
        '<property name="guarantee" value="B1: kept"/></properties></testcase></testsuite>'
    )
    with pytest.raises(ValueError, match="t failed"):
        table.figures_of(report)


@pytest.mark.parametrize("module", [m for g in GUARANTEES for m in g.kept_in])
def test_the_modules_that_test_a_guarantee_exist(module):
    """Modules had moved, so that no test counted for T2, D4, D5 and X2."""
    path = table.REPOSITORY.joinpath(*module.split("."))
    assert path.is_dir() or path.with_suffix(".py").is_file()
