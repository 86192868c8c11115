"""`elmo-deploy doctor`: run every backend on this machine and report the results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.text import Text

    from elmo_deploy.environment import Environment, Finding


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Run every backend on this machine and report what is missing.

    The exit code is 4 if no backend works.
    """
    from dataclasses import asdict

    from elmo_deploy.cli._terminal import console as terminal
    from elmo_deploy.environment import examine

    environment = examine()
    if as_json:
        terminal.print_json({**asdict(environment), "usable": environment.usable})
    else:
        _print(environment)
    if not environment.usable:
        from elmo_runtime.errors import BackendUnavailableError

        raise BackendUnavailableError(
            "no backend can be used here", hint='pip install "elmo-deploy[cpu]"'
        )


def _print(environment: Environment) -> None:
    from elmo_deploy.cli._terminal import console as terminal

    console = terminal.stdout()
    packages = [[name, found or "-"] for name, found in environment.packages.items()]
    console.print(terminal.table("packages", ["package", "version"], packages))
    for finding in (environment.driver, *environment.backends):
        console.print(_line(finding, bad=("--", "yellow")))
    for trap in environment.traps:
        console.print(_line(trap, bad=("!!", "red")))


def _line(finding: Finding, *, bad: tuple[str, str]) -> Text:
    from rich.text import Text

    hint = f"\n   hint: {finding.hint}" if finding.hint else ""
    mark = ("ok", "green") if finding.ok else bad
    return Text.assemble(mark, f" {finding.subject:<16} {finding.detail}{hint}")
