"""A report -> one self-contained HTML file: the result, pictures, then tables."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from elmo_deploy.benchmark.report.plots import (
    Picture,
    footprint_pictures,
    latency_pictures,
    ratio_pictures,
    stage_pictures,
    throughput_pictures,
)
from elmo_deploy.benchmark.report.results import Report, footprint_cells, speed_cells
from elmo_deploy.benchmark.report.summary import disturbance, headline, machine_line
from elmo_deploy.benchmark.systems.table import SYSTEMS
from elmo_runtime.files.atomic import atomic_file

# Dark paper only on screens: a print is always light.
STYLE = """
:root { color-scheme: light dark; --ink: #222; --soft: #666; --line: #ddd; --paper: #fff; }
@media screen and (prefers-color-scheme: dark) {
  :root { --ink: #e6e6e6; --soft: #aaa; --line: #444; --paper: #161616; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  margin: 1.5em auto; max-width: 72em; padding: 0 1em; }
h1, h2, h3 { line-height: 1.2; } h2 { margin-top: 2em; }
.machine, .note { color: var(--soft); font-size: .9em; }
.result { font-size: 1.35em; line-height: 1.3; margin: .6em 0; }
.pictures { display: grid; gap: 1em;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 21em), 1fr)); }
.pictures img { width: 100%; display: block; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9em; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--line); padding: .3em .8em; text-align: right; }
th:first-child, td:first-child { text-align: left; } td { white-space: nowrap; }
dt { font-weight: 600; } dd { margin: 0 0 .4em 1em; overflow-wrap: anywhere; }
@media print { body { margin: 0; max-width: none; font-size: 11px; }
  .pictures { grid-template-columns: 1fr 1fr; } picture, tr { break-inside: avoid; }
  h2, h3 { break-after: avoid; } td { white-space: normal; } .table { overflow: visible; } }
"""
DARK_SCREEN = "screen and (prefers-color-scheme: dark)"
HOW_TO_READ = """
The systems took turns in one run, each in a separate process, so that a slow minute affects all of
them. A ratio compares systems in the same round; the range after it contains the true median with
95 % confidence. A ratio whose range contains 1 is "not significant" and its bar is gray. With fewer
than six rounds, the range goes from the smallest to the largest ratio, which is not enough to be
sure. For fewer than 100 calls, p99 is the slowest call.
"""
NOT_ELMO = "The systems whose names begin with minilm compute another model, for comparison."


def write_html(report: Report, path: Path) -> None:
    """Write the page atomically."""
    with atomic_file(path) as scratch:
        scratch.write_text(page(report), "utf-8")


def page(report: Report) -> str:
    """The HTML of the page."""
    return "\n".join(
        [
            "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
            "<meta name='viewport' content='width=device-width, initial-scale=1'>",
            f"<title>elmo-deploy benchmark</title><style>{STYLE}</style></head><body>",
            "<h1>elmo-deploy benchmark</h1>",
            _paragraph("machine", machine_line(report)),
            _paragraph("result", headline(report)),
            _paragraph("note", f"{disturbance(report)} {_other_models(report)}".strip()),
            _section(f"Speed relative to {report.baseline}", ratio_pictures(report)),
            _section("Latency", latency_pictures(report)),
            _section("Throughput", throughput_pictures(report)),
            _section("Stages", stage_pictures(report)),
            _section("Loading and memory", footprint_pictures(report)),
            *_tables(report),
            "</body></html>",
        ]
    )


def _tables(report: Report) -> list[str]:
    speeds = [
        f"<h3>{escape(load)}</h3>{_table(speed_cells(report, load))}" for load in report.loads
    ]
    systems = {entry.name: SYSTEMS[entry.system].label for entry in report.entries}
    return [
        f"<h2>Tables</h2><p>{HOW_TO_READ}</p>",
        *speeds,
        "<h3>Loading and memory</h3>",
        _table(footprint_cells(report)),
        "<h2>Systems</h2>",
        _facts(systems),
        "<h2>Not measured</h2>" + _facts(report.left_out) if report.left_out else "",
        "<h2>Machine</h2>",
        _facts(report.machine),
        "<h2>Settings</h2>",
        _facts(report.settings),
    ]


def _other_models(report: Report) -> str:
    return "" if all(SYSTEMS[entry.system].is_elmo for entry in report.entries) else NOT_ELMO


def _paragraph(name: str, text: str) -> str:
    return f"<p class='{name}'>{escape(text)}</p>" if text else ""


def _section(title: str, pictures: Sequence[Picture]) -> str:
    if not pictures:
        return ""
    shown = "".join(_picture(f"{title}: {picture.title}", picture) for picture in pictures)
    return f"<h2>{escape(title)}</h2><div class='pictures'>{shown}</div>"


def _table(lines: Sequence[Mapping[str, object]]) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in lines[0])
    body = "".join(f"<tr>{_cells(line.values())}</tr>" for line in lines)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f"<div class='table'>{table}</div>"


def _cells(values: Iterable[object]) -> str:
    return "".join(f"<td>{escape(str(value))}</td>" for value in values)


def _picture(description: str, picture: Picture) -> str:
    # As images, because the ids of two inline SVG pictures would clash.
    return (
        f"<picture><source media='{DARK_SCREEN}' srcset='{_data(picture.dark)}'>"
        f"<img alt='{escape(description)}' src='{_data(picture.light)}'></picture>"
    )


def _data(svg: bytes) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode('ascii')}"


def _facts(facts: Mapping[str, object]) -> str:
    pairs = "".join(
        f"<dt>{escape(name)}</dt><dd>{_value(value)}</dd>" for name, value in facts.items()
    )
    return f"<dl>{pairs}</dl>"


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return escape(", ".join(f"{name} {item}" for name, item in value.items()))
    if isinstance(value, list | tuple):
        return escape(", ".join(map(str, value)))
    return escape(f"{value:,.6g}" if isinstance(value, float) else str(value))
