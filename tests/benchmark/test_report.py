"""The report says what was measured, in every form, and needs no other file."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from html import escape

import pytest

from elmo_deploy.benchmark.report.html import page
from elmo_deploy.benchmark.report.results import describe_ratio, speed_cells, write_csv, write_json
from elmo_deploy.benchmark.report.statistics import Ratio
from elmo_deploy.benchmark.report.summary import disturbance, headline
from elmo_deploy.benchmark.report.theme import new_panel, plain_log


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
    assert not re.search(r"(src|srcset|href)='(?!data:)", html)


def test_the_page_has_a_ratio_picture_per_load_for_light_and_dark(html, report):
    for load in report.loads:
        assert html.count(f"alt='Speed relative to cpu-padded: {load}'") == 1
    assert html.count("<source media='screen and (prefers-color-scheme: dark)'") == html.count(
        "<img"
    )


def test_the_page_begins_with_the_machine_and_the_result(html, report):
    body = html.partition("<body>")[2]
    places = [
        body.index(text)
        for text in (
            escape(report.machine["processor"]),
            "2 layers of",
            "cpu-packed is ",
            "<h2>Speed relative to",
            "<h2>Latency",
            "<h2>Throughput",
            "<h2>Stages",
            "<h2>Loading and memory",
            "<h2>Tables",
        )
    ]
    assert places == sorted(places)


def test_the_result_is_one_sentence_with_its_range(report):
    row = replace(report.row("cpu-packed", "ragged 2 x 2"), ratio=Ratio(8.1, 6.9, 9.4))
    rows = (report.row("cpu-padded", "ragged 2 x 2"), row)
    assert headline(replace(report, rows=rows)) == (
        "cpu-packed is 8.1x as fast as cpu-padded (6.9-9.4) on ragged batches of 2 sentences."
    )


def test_the_result_states_that_rounds_were_too_few(report):
    row = report.row("cpu-packed", "2 x 3")
    row = replace(row, rounds=(0.1, 0.1), ratio=Ratio(8.1, 6.9, 9.4, enough_rounds=False))
    text = headline(replace(report, rows=(report.row("cpu-padded", "2 x 3"), row)))
    assert text.endswith("batches of 2 sentences of 3 tokens; 2 rounds are not enough to be sure.")


def test_one_system_alone_is_described_by_its_speed(report):
    rows = (report.row("cpu-padded", "2 x 3"),)
    alone = replace(report, rows=rows, entries=report.entries[:1])
    assert re.match(r"cpu-padded computes [\d,]+ tokens per second on batches", headline(alone))
    assert "Speed relative to" not in page(alone)


def test_noise_is_counted(report):
    row = replace(report.rows[0], disturbed=3)
    assert "3 of 6 samples" in disturbance(replace(report, rows=(row,)))
    assert disturbance(replace(report, rows=(replace(row, disturbed=0),))) == ""


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [(0.4, 30.0, ["0.5", "1", "2", "5", "10", "20"]), (1.0, 5000.0, ["1", "10", "100", "1,000"])],
)
def test_logarithmic_axes_have_plain_numbers(low, high, labels):
    """The axes showed powers of ten, such as 10^3."""
    figure, panel = new_panel(3.0, "title")
    panel.set_xscale("log")
    panel.set_xlim(low, high)
    plain_log(panel.xaxis, low, high)
    figure.draw_without_rendering()
    shown = [
        label.get_text()
        for place, label in zip(panel.get_xticks(), panel.get_xticklabels(), strict=True)
        if low <= place <= high
    ]
    assert shown == labels


def test_the_page_escapes_what_it_is_given(html):
    assert "<dt>&lt;b&gt;</dt><dd>a &amp; b</dd>" in html


def test_the_table_names_the_baseline(report):
    assert f"speed against {report.baseline}" in speed_cells(report, "2 x 3")[0]
