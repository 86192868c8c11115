"""The command line: one module per command, imported when that command is called or listed."""

from __future__ import annotations

import contextlib
import importlib
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from elmo_deploy.cli._terminal.failures import report_failure
from elmo_deploy.cli._terminal.streams import flush_streams, prepare_streams
from elmo_runtime.signals import exit_on_signals

# Command -> module of this package. The function of the same name is the command.
COMMANDS = {
    "import": "import_",
    "vocabulary": "vocabulary",
    "train": "train",
    "evaluate": "evaluate",
    "export": "export",
    "build-engine": "build_engine",
    "verify": "verify",
    "inspect": "inspect",
    "benchmark": "benchmark",
    "embed": "embed",
    "doctor": "doctor",
}


EXIT_CODES = """\
Exit codes:
  0  success
  1  unexpected error; --debug shows the traceback
  2  usage: an option or an input is invalid
  3  verification: a graph or an engine differs from the reference model
  4  environment: a library, a driver or a required graph is missing
  5  artifact: a file is missing, corrupt or incompatible, or the disk is full
130  Ctrl-C"""
SEE_EXIT_CODES = "`elmo-deploy --help` lists the exit codes."


class LazyCommands(TyperGroup):
    """Commands that are imported at their first use, so that each one starts quickly."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The commands in the order of use, from published weights to vectors."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command with this name, or None."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"elmo_deploy.cli.{COMMANDS[cmd_name]}")
        group = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        group.command(cmd_name, epilog=SEE_EXIT_CODES)(getattr(module, COMMANDS[cmd_name]))
        return typer.main.get_command(group)


app = typer.Typer(
    cls=LazyCommands,
    name="elmo-deploy",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"elmo-deploy {version('elmo-deploy')}")
        raise typer.Exit


@app.callback(epilog=EXIT_CODES)
def elmo_deploy(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Import or train an ELMo, export it to ONNX, compile it for a GPU, and embed text with it."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code. `--debug` is accepted in any position."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    warnings.showwarning = _show_warning
    prepare_streams()
    try:
        with exit_on_signals():
            arguments = [word for word in words if word != "--debug"]
            # Outside of standalone mode, usage errors are raised and not printed in a box.
            code = app(arguments, prog_name="elmo-deploy", standalone_mode=False)
            raise SystemExit(code if isinstance(code, int) else 0)
    except SystemExit as left:
        try:
            flush_streams()
        except OSError as error:
            raise SystemExit(report_failure(error)) from None
        if isinstance(left.__context__, BrokenPipeError):
            left.code = 0  # `elmo-deploy inspect BUNDLE | head -1` is not an error
        raise
    except BaseException as error:
        if debug:
            traceback.print_exception(error)
        command = next((word for word in words if word in COMMANDS), "")
        code = report_failure(error, command=command)
        with contextlib.suppress(OSError):  # the first error is the one to report
            flush_streams()
        raise SystemExit(code) from None


def _show_warning(message: Warning | str, *where: Any, **more: Any) -> None:
    print(f"warning: {' '.join(str(message).split())}", file=sys.stderr)
