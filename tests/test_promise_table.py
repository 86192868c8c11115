"""The table of docs/guarantees.md is the one that the latest run of the tests gave."""

import json

import pytest

from promise_kit import table
from promise_kit.promises import PROMISES


def test_the_page_shows_the_committed_figures():
    shown = table.section(table.PAGE.read_text("utf-8"))
    assert shown == table.render(json.loads(table.FIGURES.read_text("utf-8")))


def test_every_promise_has_a_line():
    shown = table.section(table.PAGE.read_text("utf-8"))
    for promise in PROMISES:
        assert f"| {promise.id} | {promise.text} |" in shown


def test_a_failed_test_gives_no_figures(tmp_path):
    report = tmp_path / "report.xml"
    report.write_text(
        '<testsuite><testcase name="t" classname="c" time="1"><failure/><properties>'
        '<property name="promise" value="B1: kept"/></properties></testcase></testsuite>'
    )
    with pytest.raises(ValueError, match="t failed"):
        table.figures_of(report)
