"""`elmo-deploy train`: train or fine-tune a model on text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elmo_deploy.cli._options.text import FORMAT, TEXT, TEXT_FIELD
from elmo_deploy.training.data.coverage import MAX_UNKNOWN

# The panels of the help text.
INPUT, MODEL, RUN = "Input", "Model", "Run"
RECIPE = "Recipe (replaces values of options.json)"

if TYPE_CHECKING:
    from elmo_deploy.training import TrainingOptions, Vocabulary
    from elmo_export.checkpoint import Checkpoint


def train(
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="The directory of the run.", show_default=False, rich_help_panel=RUN
        ),
    ],
    text: Annotated[
        list[str] | None,
        typer.Option("--text", help=f"{TEXT} Required; may be repeated.", rich_help_panel=INPUT),
    ] = None,
    vocab: Annotated[
        Path | None,
        typer.Option(
            help="vocab.txt or vocab.txt.gz.",
            show_default="that of --from",
            rich_help_panel=INPUT,
        ),
    ] = None,
    heldout: Annotated[
        list[str] | None,
        typer.Option(
            help="Held-out text: its perplexity is measured at every save, and OUT/best is the"
            " best checkpoint. May be repeated.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    format: Annotated[str, typer.Option(help=FORMAT, rich_help_panel=INPUT)] = "auto",
    text_field: Annotated[str, typer.Option(help=TEXT_FIELD, rich_help_panel=INPUT)] = "text",
    max_unknown: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Largest accepted share of unknown words.",
            show_default=f"{MAX_UNKNOWN:.2f}",
            rich_help_panel=INPUT,
        ),
    ] = MAX_UNKNOWN,
    options: Annotated[
        Path | None,
        typer.Option(
            help="options.json: the shape of the model and the recipe.",
            show_default="with --from, the recipe of the paper",
            rich_help_panel=MODEL,
        ),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="CHECKPOINT",
            help="Fine-tune the weights of this checkpoint.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the text.", rich_help_panel=RECIPE)
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Rows of text per window.", rich_help_panel=RECIPE)
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Learning rate after warm-up.", rich_help_panel=RECIPE)
    ] = None,
    optimizer: Annotated[
        str | None, typer.Option(help="adagrad or adamw.", rich_help_panel=RECIPE)
    ] = None,
    warmup_steps: Annotated[
        int | None, typer.Option(help="Steps of linear warm-up.", rich_help_panel=RECIPE)
    ] = None,
    decay: Annotated[
        str | None,
        typer.Option(
            help="Decay of the learning rate: constant, linear, cosine or inverse_sqrt.",
            rich_help_panel=RECIPE,
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="Precision of matrix multiplications: fp32, bf16 or fp16.", rich_help_panel=RECIPE
        ),
    ] = None,
    accumulate_windows: Annotated[
        int | None,
        typer.Option(
            help="Gradient accumulation: windows per optimizer step.", rich_help_panel=RECIPE
        ),
    ] = None,
    negatives: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Sampled words per window; 0 computes the full softmax.",
            rich_help_panel=RECIPE,
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Random seed.", rich_help_panel=RECIPE)] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Resume the run in --out from its last save.", rich_help_panel=RUN
        ),
    ] = False,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda or cuda:N.", rich_help_panel=RUN)
    ] = "auto",
    save_every: Annotated[
        int, typer.Option(min=1, help="Save every N steps.", rich_help_panel=RUN)
    ] = 1000,
    log_every: Annotated[
        int, typer.Option(min=1, help="Log the loss every N steps.", rich_help_panel=RUN)
    ] = 100,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON.", rich_help_panel=RUN)
    ] = False,
    train: Annotated[list[str] | None, typer.Option("--train", hidden=True)] = None,
) -> None:
    """Train or fine-tune the biLM. Ctrl-C saves and stops, and --resume continues.

    With several GPUs: torchrun --nproc-per-node N --no-python elmo-deploy train ...
    """
    from dataclasses import asdict

    from elmo_deploy.cli._options.renamed import renamed
    from elmo_deploy.cli._terminal import console as terminal
    from elmo_deploy.training import train as run_training
    from elmo_deploy.training.data.shards import find_shards
    from elmo_export.checkpoint import Checkpoint
    from elmo_runtime.errors import InputError
    from elmo_runtime.text import Fields

    changes = {
        "n_epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "optimizer": optimizer,
        "warmup_steps": warmup_steps,
        "decay": decay,
        "precision": precision,
        "accumulate_windows": accumulate_windows,
        "seed": seed,
        **_negatives(negatives),
    }
    text = renamed("--train", train, "--text", text)
    if not text:
        raise InputError("no text is given", hint="name the training text: --text 'shards/*.txt'")
    weights = None if start is None else Checkpoint.read(start)
    fields = Fields(text=text_field)
    result = run_training(
        _options(options, weights, {k: v for k, v in changes.items() if v is not None}),
        shards=find_shards(text, format=format, fields=fields),
        vocabulary=_vocabulary(vocab, weights),
        run=out,
        heldout=find_shards(heldout, format=format, fields=fields) if heldout else (),
        start=weights,
        resume=resume,
        device=device,
        save_every=save_every,
        log_every=log_every,
        max_unknown=max_unknown,
        show=not as_json,
    )
    if result.rank > 0:
        return
    if as_json:
        terminal.print_json(
            {
                "checkpoint": str(result.checkpoint),
                "best": None if result.best is None else str(result.best),
                "step": result.step,
                "total_steps": result.total_steps,
                "last": None if result.last is None else asdict(result.last),
                "heldout": None if result.heldout is None else asdict(result.heldout),
            }
        )
    elif result.finished:
        terminal.stdout().print(f"trained: {result.checkpoint}", soft_wrap=True)
        if result.best is not None:
            terminal.stdout().print(
                f"best checkpoint on the held-out text: {result.best}", soft_wrap=True
            )
        terminal.stdout().print(
            f"next: elmo-deploy evaluate {result.checkpoint} --text 'heldout/*'", soft_wrap=True
        )
    else:
        terminal.stdout().print(f"stopped at step {result.step} of {result.total_steps}, saved")
        terminal.stdout().print("next: the same command with --resume")


def _negatives(count: int | None) -> dict[str, Any]:
    """The training options that `--negatives` sets."""
    if count is None:
        return {}
    return {"sample_softmax": count > 0, "n_negative_samples_batch": count or None}


def _options(
    path: Path | None, start: Checkpoint | None, changes: dict[str, Any]
) -> TrainingOptions:
    from dataclasses import replace

    from elmo_deploy.training import TrainingOptions
    from elmo_runtime.errors import InputError

    if path is not None:
        return replace(TrainingOptions.read(path), **changes)
    if start is not None:
        return TrainingOptions(model=start.config, **changes)
    raise InputError(
        "neither --options nor --from is given", hint="specify one of them to define the model"
    )


def _vocabulary(path: Path | None, start: Checkpoint | None) -> Vocabulary:
    from elmo_deploy.training import Vocabulary
    from elmo_runtime.errors import InputError

    if path is not None:
        return Vocabulary.read(path)
    if start is not None and start.vocabulary is not None:
        return Vocabulary(start.vocabulary, source="the checkpoint's vocab.txt")
    raise InputError(
        "no --vocab is given", hint="make one with: elmo-deploy vocabulary TEXT -o vocab.txt"
    )
