"""Perplexity as bilm-tf's run_test.py defines it, and the score of single sentences."""

import importlib
import math
from dataclasses import replace
from itertools import chain, pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from elmo_deploy.model.lstm import LstmState
from elmo_deploy.training import evaluate, score
from elmo_deploy.training.data.shards import read_all_sentences
from elmo_deploy.training.evaluation.perplexity import Evaluator
from elmo_export.checkpoint import Checkpoint
from elmo_runtime.characters import char_ids
from elmo_runtime.errors import CheckpointError, InputError
from random_models import random_checkpoint, tiny_config

evaluation = importlib.import_module("elmo_deploy.training.evaluation.perplexity")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained(vocabulary) -> Checkpoint:
    """A language model of random weights."""
    bare = random_checkpoint(tiny_config())
    generator = np.random.default_rng(3)
    softmax = {
        "softmax.weight": generator.normal(size=(len(vocabulary), 8)).astype(np.float32),
        "softmax.bias": generator.normal(size=len(vocabulary)).astype(np.float32),
    }
    return replace(bare, tensors={**bare.tensors, **softmax}, vocabulary=vocabulary.words)


@torch.inference_mode()
def losses_of_a_stream(trained, words, *, backward):
    """One row read word by word by the readable modules, from the zero state: its losses."""
    evaluator = Evaluator.load(trained, CPU)
    model, ids = evaluator.model, {word: line for line, word in enumerate(trained.vocabulary)}
    stack = model.bilm.backward_stack if backward else model.bilm.forward_stack
    state = LstmState(torch.zeros(2, 1, 8), torch.zeros(2, 1, 24))
    losses = []
    for word, following in words:
        vector = model.char_cnn(torch.from_numpy(char_ids([word])).long())
        outputs, state = stack(vector.unsqueeze(0), state)
        logits = F.linear(outputs[-1][0], model.softmax.weight, model.softmax.bias)
        target = torch.tensor([ids.get(following, ids["<UNK>"])])
        losses.append(float(F.cross_entropy(logits, target)))
    return losses


def pairs(sentences, *, backward):
    """Each word of a stream and the one that follows it."""
    marked = [
        ["</S>", *reversed(tokens), "<S>"] if backward else ["<S>", *tokens, "</S>"]
        for tokens in sentences
    ]
    return list(chain.from_iterable(pairwise(row) for row in marked))


@pytest.mark.parametrize("rows", [1, 2])
def test_perplexity_is_that_of_rows_read_word_by_word_with_carried_states(
    trained, shards, vocabulary, tmp_path, rows
):
    """With two rows of equally long sentences, row b reads sentences b, b + 2, b + 4, ..."""
    sentences = [tokens[:3] for tokens in read_all_sentences(shards)][:20]
    text = tmp_path / "text.txt"
    text.write_text("\n".join(" ".join(tokens) for tokens in sentences), "utf-8")
    result = evaluate(trained, shards=[text], batch_size=rows, device="cpu")
    means = []
    for backward in (False, True):
        losses = chain.from_iterable(
            losses_of_a_stream(
                trained, pairs(sentences[row::rows], backward=backward), backward=backward
            )
            for row in range(rows)
        )
        means.append(float(np.mean(list(losses))))
    assert result.n_tokens == 20 * 4
    assert (result.forward_loss, result.backward_loss) == pytest.approx(means, rel=1e-5)
    assert result.perplexity == pytest.approx(math.exp(sum(means) / 2), rel=1e-5)


@pytest.mark.slow
def test_computing_many_single_steps_together_changes_nothing(trained, shards, monkeypatch):
    together = evaluate(trained, shards=shards, batch_size=5, device="cpu")
    monkeypatch.setattr(evaluation, "STEPS_AT_ONCE", 1)
    monkeypatch.setattr(evaluation, "LOGITS_AT_ONCE", 30)
    one_by_one = evaluate(trained, shards=shards, batch_size=5, device="cpu")
    assert one_by_one.n_tokens == together.n_tokens
    assert one_by_one.forward_loss == pytest.approx(together.forward_loss, rel=1e-6)
    assert one_by_one.backward_loss == pytest.approx(together.backward_loss, rel=1e-6)


def test_a_model_that_knows_nothing_is_as_perplexed_as_there_are_words(trained, shards):
    zeros = {name: np.zeros_like(trained.tensors[name]) for name in trained.tensors}
    result = evaluate(replace(trained, tensors=zeros), shards=shards, batch_size=4, device="cpu")
    figures = (result.forward_perplexity, result.backward_perplexity, result.perplexity)
    assert figures == pytest.approx([13, 13, 13])


def test_a_text_that_does_not_fill_the_rows_is_refused(trained, tmp_path):
    (tmp_path / "a").write_text("the cat")
    with pytest.raises(InputError, match="does not fill 2 rows"):
        evaluate(trained, shards=[tmp_path / "a"], batch_size=2, device="cpu")


def test_a_checkpoint_without_a_softmax_predicts_nothing(shards):
    with pytest.raises(CheckpointError, match=r"has no softmax.*elmo-deploy train --from"):
        evaluate(random_checkpoint(tiny_config()), shards=shards)


def test_a_score_is_the_log_probability_of_the_words_and_the_last_boundary_token(trained, shards):
    sentences = [*list(read_all_sentences(shards))[:5], []]
    for tokens, scored in zip(sentences, score(trained, sentences, device="cpu"), strict=True):
        assert scored.n_tokens == len(tokens)
        for backward, value in ((False, scored.forward), (True, scored.backward)):
            words = pairs([tokens], backward=backward)
            losses = losses_of_a_stream(trained, words, backward=backward)
            assert value == pytest.approx(-sum(losses), rel=1e-5)


def test_a_score_does_not_depend_on_the_sentences_around_it(trained, shards, monkeypatch):
    sentences = list(read_all_sentences(shards))
    alone = [next(score(trained, [tokens], device="cpu")) for tokens in sentences[:10]]
    monkeypatch.setattr(evaluation, "SCORED_AT_ONCE", 7)
    together = list(score(trained, sentences, device="cpu"))[:10]
    for a, b in zip(alone, together, strict=True):
        assert (a.n_tokens, a.forward) == (b.n_tokens, pytest.approx(b.forward, rel=1e-5))
        assert a.backward == pytest.approx(b.backward, rel=1e-5)
