"""The recipe is read from bilm-tf's options.json; unsupported options are refused."""

import json

import pytest

from elmo_deploy.training import TrainingOptions
from elmo_runtime.errors import ConfigError
from random_models import tiny_config

MODEL = tiny_config().to_options()


def test_without_training_keys_the_recipe_is_the_papers():
    recipe = TrainingOptions.from_options(MODEL)
    assert (recipe.batch_size, recipe.unroll_steps, recipe.n_epochs) == (128, 20, 10)
    assert (recipe.peak_rate, recipe.initial_accumulator) == (0.2, 1.0)
    assert (recipe.n_negatives, recipe.dropout) == (8192, 0.1)
    assert (recipe.all_clip_norm_val, recipe.optimizer, recipe.decay) == (
        10.0,
        "adagrad",
        "constant",
    )
    assert recipe.zero_state_probability == 0.01  # the one that is not


def test_options_survive_json(options):
    recipe = options(warmup_steps=7, decay="cosine", all_clip_norm_val=None, precision="bf16")
    back = json.loads(json.dumps(recipe.to_options()))
    assert TrainingOptions.from_options(back) == recipe


def test_the_options_of_the_original_are_understood(shared_data):
    recipe = TrainingOptions.read(shared_data / "wikitext-2-sentences" / "options-mini.json")
    assert (recipe.batch_size, recipe.n_train_tokens, recipe.n_epochs) == (64, 2005396, 1)
    assert (recipe.model.lstm_dim, recipe.model.n_filters) == (256, 256)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"share_embedding_softmax": True}, "characters have no word embedding"),
        ({"bidirectional": False}, "an ELMo reads both ways"),
        ({"dropout": 1.0}, r"dropout is 1.0, must be in \[0, 1\)"),
        ({"zero_state_probability": 2}, r"zero_state_probability is 2.0, must be in \[0, 1\]"),
        ({"batch_size": 0}, "batch_size is 0, must be at least 1"),
        ({"batch_size": "64"}, "batch_size is '64', must be int"),
        ({"batch_size": True}, "batch_size is True, must be int"),
        ({"n_train_tokens": 1.5}, "n_train_tokens is 1.5, must be int or null"),
        ({"optimizer": "sgd"}, "optimizer is 'sgd', must be one of adagrad, adamw"),
        ({"learning_rate": 0}, "learning_rate is 0.0, must be above 0"),
        ({"char_cnn": None}, "word-input models have no characters"),
    ],
)
def test_an_option_out_of_range_is_named(changes, message):
    with pytest.raises(ConfigError, match=message):
        TrainingOptions.from_options({**MODEL, **changes})
