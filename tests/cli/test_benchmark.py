"""`elmo-deploy benchmark` measures, prints and writes; mistakes are reported before it runs."""

from __future__ import annotations

import json

QUICK = ("--batch", 1, "--length", 2, "--ragged", 0, "--rounds", 1, "--seconds", 0, "--threads", 1)


def test_results_are_printed_as_a_table_and_written_to_files(run, bundle, tmp_path):
    answer = run("benchmark", bundle, "--system", "cpu-packed", *QUICK, "-o", tmp_path / "out")
    assert (answer.code, answer.stderr.strip()) == (0, "")
    assert "cpu-packed" in answer.stdout
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["benchmark.csv", "benchmark.html", "benchmark.json"]


def test_stdout_contains_only_json(run, bundle):
    answer = run("benchmark", bundle, "--system", "cpu-padded", *QUICK, "--json")
    assert answer.stderr.strip() == ""
    figures = json.loads(answer.stdout)
    assert [entry["name"] for entry in figures["entries"]] == ["cpu-padded"]


def test_an_unknown_system_is_a_usage_error(run, bundle):
    answer = run("benchmark", bundle, "--system", "abacus")
    assert answer.code == 2
    assert "cpu-packed" in answer.stderr
