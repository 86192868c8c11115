"""Pages of the documentation that are made from the code and from the root of the repository.

MkDocs calls `on_files` (see mkdocs.yml), so that these pages cannot be out of date.
"""

from __future__ import annotations

import re
from pathlib import Path

import typer.main
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from typer.cli import get_docs_for_click

import elmo_deploy
import elmo_export
import elmo_runtime
from elmo_deploy.cli import app

REPOSITORY = Path(__file__).parents[1]
COPIED = {
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "security.md": "SECURITY.md",
}
EXIT_CODES = """
## Output and exit codes

Results go to stdout, as JSON with `--json`; progress and warnings go to stderr.
An error is one line with the problem and one line, after `hint:`, with the fix.

| Code | Meaning |
| --- | --- |
| 0 | success |
| 1 | unexpected error; `--debug` shows the traceback |
| 2 | usage: an option or an input is invalid |
| 3 | verification failed: a graph or an engine differs from the reference model |
| 4 | environment: a library, a driver, a provider or a required graph is missing |
| 5 | a file is missing, corrupt or incompatible, or the disk is full |
| 130 | Ctrl-C |
"""


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the generated pages to those of docs/."""
    pages = {name: (REPOSITORY / source).read_text("utf-8") for name, source in COPIED.items()}
    pages["reference/cli.md"] = command_line()
    pages["reference/python.md"] = python_reference()
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    return files


def command_line() -> str:
    """Every command with its arguments and options, as typer documents them."""
    command = typer.main.get_command(app)
    context = command.make_context("elmo-deploy", [], resilient_parsing=True)
    text = get_docs_for_click(obj=command, ctx=context, name="elmo-deploy", title="Command line")
    head, first, commands = text.partition("\n## ")
    return _without_tags(head + EXIT_CODES + first + commands)


def _without_tags(markdown: str) -> str:
    """Escape tokens such as <S>, which a browser would read as a tag."""
    return re.sub(r"<(?=/?[A-Z])", "&lt;", markdown)


def python_reference() -> str:
    """A mkdocstrings directive for every public name of `elmo_deploy`: errors come last."""
    names = sorted(elmo_deploy.__all__, key=str.lower)
    errors = [name for name in names if name.endswith(("Error", "Warning"))]
    others = [name for name in names if name not in errors]
    return "\n".join(
        [
            "# Python",
            "Every name can be imported from `elmo_deploy`; names of the runtime can also be"
            " imported from `elmo_runtime`, which needs only numpy.",
            "## Classes and functions",
            *(f"::: {_package_of(name)}.{name}\n" for name in others),
            "## Errors and warnings",
            "Every error has the attribute `exit_code`, the exit code of the command line.\n",
            *(f"::: {_package_of(name)}.{name}\n" for name in errors),
        ]
    )


def _package_of(name: str) -> str:
    """The package that defines a public name; the documentation is built without torch."""
    packages = (elmo_runtime, elmo_export, elmo_deploy)
    return next(package.__name__ for package in packages if name in package.__all__)
