"""The files that contributors and services read agree with the project."""

import re
import tomllib
from pathlib import Path

import jsonschema
import pytest
import yaml

import elmo_runtime

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
CALLERS = [*WORKFLOWS, ROOT / ".ci" / "run", ROOT / "CONTRIBUTING.md", ROOT / "RELEASE.md"]


def targets():
    """The targets of the Makefile."""
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text("utf-8"), re.M))


@pytest.mark.parametrize("caller", CALLERS, ids=lambda path: path.name)
def test_every_make_target_that_is_named_exists(caller):
    text = caller.read_text("utf-8")
    named = re.findall(r"(?:^ *|run: |exec |`)make ([a-z][a-z-]*)", text, re.M)
    assert set(named) <= targets()
    assert named


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_reads_only_unless_a_job_needs_more(workflow):
    """Without this line every job could write to the repository."""
    assert yaml.safe_load(workflow.read_text("utf-8"))["permissions"] == {"contents": "read"}


def test_the_workflow_runs_every_python_of_the_classifiers():
    jobs = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text("utf-8"))["jobs"]
    pythons = jobs["test"]["strategy"]["matrix"]["python"]
    prefix = "Programming Language :: Python :: "
    assert [prefix + python for python in pythons] == [
        classifier for classifier in PROJECT["classifiers"] if classifier.startswith(prefix)
    ]


def test_the_citation_names_the_license_and_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert (citation["title"], citation["license"]) == (PROJECT["name"], PROJECT["license"])
    assert "1802.05365" in citation["references"][0]["url"]


@pytest.mark.parametrize("path", sorted(ROOT.glob(".github/ISSUE_TEMPLATE/[!c]*.yml")))
def test_an_issue_form_has_labeled_fields(path):
    """GitHub silently ignores a form that lacks one of these keys."""
    field = {
        "required": ["type", "attributes"],
        "properties": {"type": {"enum": ["markdown", "textarea", "input", "dropdown"]}},
        "if": {"properties": {"type": {"const": "textarea"}}},
        "then": {"required": ["id"], "properties": {"attributes": {"required": ["label"]}}},
    }
    form = {
        "required": ["name", "description", "body"],
        "properties": {"body": {"type": "array", "minItems": 1, "items": field}},
    }
    jsonschema.validate(yaml.safe_load(path.read_text("utf-8")), form)


def test_the_command_line_page_lists_every_exit_code():
    text = (ROOT / "docs" / "generated_pages.py").read_text("utf-8")
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.M)}
    errors = [getattr(elmo_runtime, name) for name in elmo_runtime.__all__ if "Error" in name]
    assert documented == {0, 130} | {error.exit_code for error in errors}


def test_the_navigation_lists_every_page():
    """`make docs` checks this too, but only where MkDocs is installed."""
    navigation = re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.M)
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")}
    generated = set(re.findall(r'"([a-z/]+\.md)"', (ROOT / "docs/generated_pages.py").read_text()))
    assert set(navigation) == pages | generated


PAGES = [*sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_names_extras_and_programs_that_exist(page):
    text = page.read_text("utf-8")
    extras = ",".join(re.findall(r"elmo-deploy\[([\w,-]+)\]", text)).split(",")
    assert set(filter(None, extras)) <= set(PROJECT["optional-dependencies"])
    programs = re.findall(r"\b(?:benchmarks|examples|tests|fuzz)/[\w/]+\.(?:py|json|tsv)\b", text)
    assert all((ROOT / program).is_file() for program in programs)
