"""`elmo-deploy benchmark` measures, prints and writes; mistakes are told before anything runs."""

from __future__ import annotations

import json

QUICK = ("--batch", 1, "--length", 2, "--ragged", 0, "--rounds", 1, "--seconds", 0, "--threads", 1)


def test_figures_come_as_a_table_and_as_files(run, bundle, tmp_path):
    answer = run("benchmark", bundle, "--system", "cpu-packed", *QUICK, "-o", tmp_path / "out")
    assert (answer.code, answer.stderr.strip()) == (0, "")
    assert "cpu-packed" in answer.stdout
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["benchmark.csv", "benchmark.html", "benchmark.json"]


def test_json_is_all_there_is_on_stdout(run, bundle):
    answer = run("benchmark", bundle, "--system", "cpu-padded", *QUICK, "--json")
    assert answer.stderr.strip() == ""
    figures = json.loads(answer.stdout)
    assert [entry["name"] for entry in figures["entries"]] == ["cpu-padded"]


def test_a_system_that_does_not_exist_is_a_mistake_of_the_caller(run, bundle):
    answer = run("benchmark", bundle, "--system", "abacus")
    assert answer.code == 2
    assert "cpu-packed" in answer.stderr
