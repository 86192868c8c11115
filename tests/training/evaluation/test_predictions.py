"""The score of each token and the words in its place, against the softmax computed by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from elmo_deploy.model.lstm import LstmState
from elmo_deploy.training import score, score_tokens, substitutes
from elmo_deploy.training.data.shards import read_all_sentences
from elmo_deploy.training.evaluation.perplexity import Evaluator
from elmo_export.checkpoint import Checkpoint
from elmo_runtime.characters import char_ids
from random_models import random_checkpoint, tiny_config

CPU = torch.device("cpu")
SENTENCES = [["the", "cat", "sat"], ["dogs"], [], ["the", "elephant", "on", "mats"]]


@pytest.fixture(scope="module")
def trained(vocabulary) -> Checkpoint:
    """A language model of random weights, sharp enough to rank words."""
    bare = random_checkpoint(tiny_config())
    generator = np.random.default_rng(5)
    softmax = {
        "softmax.weight": generator.normal(size=(len(vocabulary), 8)).astype(np.float32),
        "softmax.bias": generator.normal(size=len(vocabulary)).astype(np.float32),
    }
    return replace(bare, tensors={**bare.tensors, **softmax}, vocabulary=vocabulary.words)


@torch.inference_mode()
def distributions(trained, words, *, backward):
    """The probabilities of the complete vocabulary after each word, by the plain modules."""
    model = Evaluator.load(trained, CPU).model
    stack = model.bilm.backward_stack if backward else model.bilm.forward_stack
    state = LstmState(torch.zeros(2, 1, 8), torch.zeros(2, 1, 24))
    weight, bias = model.softmax.weight.double(), model.softmax.bias.double()
    found = []
    for word in words:
        vector = model.char_cnn(torch.from_numpy(char_ids([word])).long())
        outputs, state = stack(vector.unsqueeze(0), state)
        logits = weight @ outputs[-1][0, 0].double() + bias
        found.append(
            (logits - logits.max()).exp().numpy() / float((logits - logits.max()).exp().sum())
        )
    return found


def by_hand(trained, tokens):
    """Per token the probabilities of the vocabulary: forward, backward and both."""
    forward = distributions(trained, ["<S>", *tokens], backward=False)[: len(tokens)]
    backward = distributions(trained, ["</S>", *reversed(tokens)], backward=True)[: len(tokens)]
    products = [f * b for f, b in zip(forward, reversed(backward), strict=True)]
    return list(zip(forward, reversed(backward), [p / p.sum() for p in products], strict=True))


def test_substitutes_are_the_most_probable_words_of_the_full_softmax(trained):
    found = list(substitutes(trained, SENTENCES, n=4, device="cpu"))
    assert [[s.token for s in sentence] for sentence in found] == SENTENCES
    for tokens, sentence in zip(SENTENCES, found, strict=True):
        for expected, token in zip(by_hand(trained, tokens), sentence, strict=True):
            for distribution, predictions in zip(
                expected, (token.forward, token.backward, token.both), strict=True
            ):
                order = np.argsort(-distribution)[:4]
                assert [p.word for p in predictions] == [trained.vocabulary[i] for i in order]
                assert [p.probability for p in predictions] == pytest.approx(
                    distribution[order].tolist(), rel=1e-4
                )


def test_more_substitutes_than_words_give_the_complete_vocabulary(trained):
    (sentence,) = substitutes(trained, [["cat"]], n=1000, device="cpu")
    for predictions in (sentence[0].forward, sentence[0].backward, sentence[0].both):
        assert len(predictions) == len(trained.vocabulary)
        assert sum(p.probability for p in predictions) == pytest.approx(1.0, rel=1e-5)


def test_the_logits_are_held_in_pieces(trained, monkeypatch):
    together = list(substitutes(trained, SENTENCES, n=2, device="cpu"))
    monkeypatch.setattr("elmo_deploy.training.evaluation.predictions.LOGITS_AT_ONCE", 1)
    in_pieces = list(substitutes(trained, SENTENCES, n=2, device="cpu"))
    words = [
        [[p.word for p in token.both] for sentence in found for token in sentence]
        for found in (together, in_pieces)
    ]
    assert words[0] == words[1]


def test_the_scores_of_the_tokens_are_those_of_the_full_softmax(trained):
    ids = {word: line for line, word in enumerate(trained.vocabulary)}
    for tokens, scores in zip(
        SENTENCES, score_tokens(trained, SENTENCES, device="cpu"), strict=True
    ):
        assert [s.token for s in scores] == ["<S>", *tokens, "</S>"]
        assert scores[0].forward is None and scores[-1].backward is None
        for token, expected, scored in zip(
            tokens, by_hand(trained, tokens), scores[1:-1], strict=True
        ):
            assert scored.known == (token in ids)
            target = ids.get(token, ids["<UNK>"])
            assert scored.forward == pytest.approx(math.log(expected[0][target]), rel=1e-4)
            assert scored.backward == pytest.approx(math.log(expected[1][target]), rel=1e-4)


def test_the_scores_of_the_tokens_add_up_to_that_of_the_sentence(trained, shards):
    sentences = list(read_all_sentences(shards))[:30]
    by_token = score_tokens(trained, sentences, device="cpu")
    for whole, parts in zip(score(trained, sentences, device="cpu"), by_token, strict=True):
        assert sum(p.forward for p in parts[1:]) == pytest.approx(whole.forward, rel=1e-4)
        assert sum(p.backward for p in parts[:-1]) == pytest.approx(whole.backward, rel=1e-4)
