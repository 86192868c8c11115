"""A report -> one self-contained HTML file with tables and plots."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from elmo_deploy.benchmark.report.plots import draw_all
from elmo_deploy.benchmark.report.results import Report, footprint_cells, speed_cells
from elmo_runtime.files.atomic import atomic_file

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em; }
table { border-collapse: collapse; margin: 1em 0; }
th, td { border-bottom: 1px solid #ddd; padding: .3em .8em; text-align: right; }
th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; } dt { font-weight: 600; } dd { margin: 0 0 .4em 1em; }
"""
HOW_TO_READ = """
The systems took turns in one run, each in a separate process, so that a slow minute affects all of
them. A ratio compares systems in the same round; the range after it contains the true median with
95 % confidence. A ratio whose range contains 1 is "not significant". With fewer than six rounds,
the range goes from the smallest to the largest ratio, which is not enough to be sure.
For fewer than 100 calls, p99 is the slowest call.
"""


def write_html(report: Report, path: Path) -> None:
    """Write the page atomically."""
    with atomic_file(path) as scratch:
        scratch.write_text(page(report), "utf-8")


def page(report: Report) -> str:
    """The HTML of the page."""
    speeds = [
        f"<h2>{escape(load)}</h2>" + _table(speed_cells(report, load)) for load in report.loads
    ]
    pictures = [
        f"<h2>{escape(title)}</h2>{_picture(title, svg)}" for title, svg in draw_all(report).items()
    ]
    return "\n".join(
        [
            "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
            f"<title>elmo-deploy benchmark</title><style>{STYLE}</style></head><body>",
            f"<h1>elmo-deploy benchmark</h1><p>{HOW_TO_READ}</p>",
            *speeds,
            *pictures,
            "<h2>Loading and memory</h2>",
            _table(footprint_cells(report)),
            _left_out(report.left_out),
            "<h2>Machine</h2>",
            _facts(report.machine),
            "<h2>Settings</h2>",
            _facts(report.settings),
            "</body></html>",
        ]
    )


def _table(lines: Sequence[Mapping[str, object]]) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in lines[0])
    body = "".join(f"<tr>{_cells(line.values())}</tr>" for line in lines)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cells(values: Iterable[object]) -> str:
    return "".join(f"<td>{escape(str(value))}</td>" for value in values)


def _picture(title: str, svg: bytes) -> str:
    # As an image, because the ids of two inline SVG pictures would clash.
    encoded = base64.b64encode(svg).decode("ascii")
    return f"<img alt='{escape(title)}' src='data:image/svg+xml;base64,{encoded}'>"


def _left_out(reasons: Mapping[str, str]) -> str:
    if not reasons:
        return ""
    return "<h2>Not measured</h2>" + _facts(reasons)


def _facts(facts: Mapping[str, object]) -> str:
    pairs = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in facts.items()
    )
    return f"<dl>{pairs}</dl>"
