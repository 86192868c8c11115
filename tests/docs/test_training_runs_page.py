"""docs/reference/training-runs.md lists every option of `elmo-deploy train`."""

import inspect
from pathlib import Path

from elmo_deploy.cli.train import train

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "training-runs.md"
NAMES = {"start": "--from"}
# Options of every command that reads text, and the old name of --text.
NOT_LISTED = {"format", "text_field", "as_json", "train"}


def test_every_option_of_the_command_is_listed():
    page = PAGE.read_text("utf-8")
    options = [
        NAMES.get(name, f"--{name.replace('_', '-')}")
        for name in inspect.signature(train).parameters
        if name not in NOT_LISTED
    ]
    assert [option for option in options if f"`{option}`" not in page] == []
