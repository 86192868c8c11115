"""The report says what was measured, in every form, and needs no other file."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace

import pytest

from elmo_deploy.benchmark.report.html import page
from elmo_deploy.benchmark.report.results import describe_ratio, speed_cells, write_csv, write_json
from elmo_deploy.benchmark.report.statistics import Ratio


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (None, "baseline"),
        (Ratio(1.2, 0.9, 1.5), "1.20x (0.90-1.50), not significant"),
        (
            Ratio(10.5, 9.9, 11.2, enough_rounds=False),
            "10.50x (9.90-11.20), not enough rounds to be sure",
        ),
        (Ratio(2.0, 1.8, 2.2), "2.00x (1.80-2.20)"),
    ],
)
def test_a_ratio_is_always_shown_with_its_range(ratio, text):
    """The table said "no difference" without a number next to 37,189 against 3,529 tokens/s."""
    assert describe_ratio(ratio) == text


def test_json_holds_machine_versions_and_figures(report, tmp_path):
    write_json(report, tmp_path / "benchmark.json")
    content = json.loads((tmp_path / "benchmark.json").read_text())
    assert {"processor", "cores", "versions"} <= set(content["machine"])
    assert content["rows"][0]["latency"]["p50"] == report.rows[0].latency.p50


def test_json_states_whether_the_rounds_were_enough(report, tmp_path):
    row = replace(report.rows[1], ratio=Ratio(2.0, 1.5, 2.5, enough_rounds=False))
    write_json(replace(report, rows=(row,)), tmp_path / "benchmark.json")
    ratio = json.loads((tmp_path / "benchmark.json").read_text())["rows"][0]["ratio"]
    assert (ratio["enough_rounds"], ratio["is_a_difference"]) == (False, False)


def test_csv_has_a_line_for_every_row(report, tmp_path):
    write_csv(report, tmp_path / "benchmark.csv")
    lines = list(csv.DictReader((tmp_path / "benchmark.csv").read_text().splitlines()))
    assert [line["system"] for line in lines] == [row.entry for row in report.rows]


@pytest.fixture(scope="module")
def html(report) -> str:
    """The page, with a reason that is no HTML."""
    return page(replace(report, left_out={"<b>": "a & b"}))


def test_the_page_needs_no_other_file(html):
    assert html.count("data:image/svg+xml;base64,") == 4
    assert not re.search(r"(src|href)='(?!data:)", html)


def test_the_page_escapes_what_it_is_given(html):
    assert "<dt>&lt;b&gt;</dt><dd>a &amp; b</dd>" in html


def test_the_table_names_the_baseline(report):
    assert f"speed against {report.baseline}" in speed_cells(report, "2 x 3")[0]
