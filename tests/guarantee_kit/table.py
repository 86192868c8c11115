"""A test report -> benchmarks/results/guarantees.json and the table of docs/guarantees.md.

    python tests/guarantee_kit/table.py REPORT.xml     updates both from one run

A test reports its figure by `record_property("guarantee", "C2: 200 kills, ...")`; a control by
`record_property("control", "C2: the message for the injected fault")`.
"""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from guarantee_kit.guarantees import GUARANTEES

REPOSITORY = Path(__file__).parents[2]
FIGURES = REPOSITORY / "benchmarks" / "results" / "guarantees.json"
PAGE = REPOSITORY / "docs" / "guarantees.md"
BEGIN, END = "<!-- guarantees: begin -->", "<!-- guarantees: end -->"

COUNTED = "counted in "  # prefix for a test that is only counted
Figures = dict[str, dict[str, Any]]  # guarantee id -> figure, controls, seconds


def figures_of(report: Path) -> Figures:
    """Collect the figures of a JUnit report. Raises ValueError if one of the tests failed."""
    figures: Figures = {}
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        for identity, kind, text in _records_of(case):
            if case.find("failure") is not None or case.find("error") is not None:
                raise ValueError(f"{case.get('name')} failed; only passed runs give figures")
            entry = figures.setdefault(identity, {"figure": [], "controls": [], "seconds": 0.0})
            entry[kind].append(text)
            entry["seconds"] = round(entry["seconds"] + float(case.get("time", 0)), 1)
    return _with_counts(figures)


def _records_of(case: ElementTree.Element) -> Iterator[tuple[str, str, str]]:
    """Yield the guarantee id, "figure" or "controls", and the text that a test reported."""
    for record in case.iter("property"):
        kind = {"guarantee": "figure", "control": "controls"}.get(str(record.get("name")))
        if kind:
            identity, _, text = str(record.get("value")).partition(": ")
            yield identity, kind, text
    if case.find("skipped") is None:
        module = str(case.get("classname"))
        for guarantee in GUARANTEES:
            if module.startswith(guarantee.kept_in):
                yield guarantee.id, "figure", f"{COUNTED}{module}"


def _with_counts(figures: Figures) -> Figures:
    """Replace the tests that are only counted by their number."""
    for entry in figures.values():
        modules = {text for text in entry["figure"] if text.startswith(COUNTED)}
        count = sum(text.startswith(COUNTED) for text in entry["figure"])
        entry["figure"] = [text for text in entry["figure"] if not text.startswith(COUNTED)]
        if modules:
            places = ", ".join(sorted({_file_of(module) for module in modules}))
            entry["figure"].append(f"{count} tests in {places}")
    return figures


def _file_of(module: str) -> str:
    """tests.cli.test_embed -> tests/cli; other directories by file."""
    parts = module.removeprefix(COUNTED).split(".")
    return "tests/cli" if parts[1] == "cli" else "/".join(parts)


def render(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """The table in the format of docs/guarantees.md."""
    rows = ["| id | guarantee | latest run |", "| --- | --- | --- |"]
    for guarantee in GUARANTEES:
        entry = figures.get(guarantee.id, {"figure": ["not part of the last run"]})
        figure = "; ".join(entry["figure"])
        if guarantee.gpu:
            figure += f" ({guarantee.gpu}: not measured on a GPU)"
        rows.append(f"| {guarantee.id} | {guarantee.text} | {figure} |")
    return "\n".join(rows)


def section(text: str) -> str:
    """The text between the markers of the page."""
    _, begin, rest = text.partition(BEGIN)
    inside, end, _ = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{PAGE.name} lacks the markers {BEGIN} and {END}")
    return inside.strip()


def replace_section(text: str, table: str) -> str:
    """The page with this table between its markers."""
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def main(report: str) -> None:
    """Update the committed file and the page with the figures of a run."""
    known: Figures = json.loads(FIGURES.read_text("utf-8")) if FIGURES.exists() else {}
    known |= figures_of(Path(report))
    ordered = {
        guarantee.id: known[guarantee.id] for guarantee in GUARANTEES if guarantee.id in known
    }
    FIGURES.write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n", "utf-8")
    PAGE.write_text(replace_section(PAGE.read_text("utf-8"), render(ordered)), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
