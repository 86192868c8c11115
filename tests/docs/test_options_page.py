"""docs/reference/options.md lists every key of options.json with its default."""

import json
import re
from dataclasses import fields
from pathlib import Path

from elmo_deploy.training.options import TrainingOptions
from elmo_runtime.config import ElmoConfig
from random_models import tiny_config

PAGE = (Path(__file__).parents[2] / "docs/reference/options.md").read_text("utf-8")


def defaults(section):
    """Key -> the default that a section of the page states."""
    text = PAGE.partition(f"## {section}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?`) \| (.*?) \|", text, re.M)
    return {
        key: default.strip("`") for keys, default in rows for key in re.findall("`(.*?)`", keys)
    }


def test_every_training_key_is_listed_with_its_default():
    assert defaults("Training") == {
        field.name: json.dumps(field.default)
        for field in fields(TrainingOptions)
        if field.name != "model"
    }


def test_every_key_of_the_shape_is_listed():
    options = tiny_config().to_options()
    keys = {f"{part}.{key}" for part, section in options.items() for key in section}
    assert set(defaults("Shape")) == keys - {"char_cnn.embedding"} | {"char_cnn.embedding.dim"}


def test_the_defaults_of_the_shape_are_those_of_the_reader():
    """Reading only the required keys gives the same configuration as stating every default."""
    stated = {key: default for key, default in defaults("Shape").items() if default != "required"}
    required = {
        "lstm": {"dim": 8, "projection_dim": 4},
        "char_cnn": {"embedding": {"dim": 4}, "filters": [[1, 4]]},
    }
    complete = json.loads(json.dumps(required))
    for key, default in stated.items():
        part, _, name = key.partition(".")
        complete[part][name] = json.loads(default)
    assert ElmoConfig.from_options(complete) == ElmoConfig.from_options(required)
