"""The command line: one file a verb, imported only when that verb is called or listed.

Exit codes: 0 ok, 1 unexpected, 2 usage, 3 verification failed, 4 environment (a library, driver
or provider is missing), 5 artifact missing, corrupt or incompatible; 130 after Ctrl-C.
"""

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

# Verb -> module of this package; the module's function of the same name is the command.
VERBS = {
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


class LazyVerbs(TyperGroup):
    """Commands that are imported at their first use, so that no verb waits for another's."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The verbs in the order of the road from foreign weights to vectors."""
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of a verb, or None when there is no such verb."""
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"elmo_deploy.cli.{VERBS[cmd_name]}")
        verb = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        verb.command(cmd_name)(getattr(module, VERBS[cmd_name]))
        return typer.main.get_command(verb)


app = typer.Typer(
    cls=LazyVerbs,
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


@app.callback()
def elmo_deploy(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """ELMo in production: checkpoint -> ONNX -> TensorRT -> embeddings."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code; `--debug` may stand anywhere."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    warnings.showwarning = _show_warning
    prepare_streams()
    try:
        with exit_on_signals():
            app([word for word in words if word != "--debug"], prog_name="elmo-deploy")
    except SystemExit as left:
        try:
            flush_streams()
        except OSError as error:
            raise SystemExit(report_failure(error)) from None
        if isinstance(left.__context__, BrokenPipeError):
            left.code = 0  # `elmo-deploy inspect BUNDLE | head -1` is no error of ours
        raise
    except BaseException as error:
        if debug:
            traceback.print_exception(error)
        command = next((word for word in words if word in VERBS), "")
        code = report_failure(error, command=command)
        with contextlib.suppress(OSError):  # the first error is the one to report
            flush_streams()
        raise SystemExit(code) from None


def _show_warning(message: Warning | str, *where: Any, **more: Any) -> None:
    print(f"warning: {' '.join(str(message).split())}", file=sys.stderr)
