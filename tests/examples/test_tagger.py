"""The example tagger: its CRF against all paths, its scores, and one that learns."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import pytest
import torch

from elmo_deploy import Elmo

EXAMPLES = Path(__file__).parents[2] / "examples"
SENTENCES = (
    "the cat sees Rome\nO\tO\tO\tB-place", "a dog hears New York\nO\tO\tO\tB-place\tI-place"
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def examples_are_importable():
    sys.path.insert(0, str(EXAMPLES))
    yield
    sys.path.remove(str(EXAMPLES))


@pytest.fixture
def crf():
    from crf import Crf

    crf = Crf(3)
    for parameter in crf.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(0))
    return crf


@pytest.fixture
def emissions():
    return torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(1))


LENGTHS = (4, 2)
MASK = torch.arange(4) < torch.tensor(LENGTHS)[:, None]


def all_paths(crf, emissions, row):
    """Every tag sequence of one sentence and its score, added up term by term."""
    for path in itertools.product(range(3), repeat=LENGTHS[row]):
        score = crf.first[path[0]] + crf.last[path[-1]]
        score = score + sum(emissions[row, step, tag] for step, tag in enumerate(path))
        score = score + sum(crf.pairs[pair] for pair in itertools.pairwise(path))
        yield list(path), score.item()


def test_the_partition_sums_over_all_paths(crf, emissions):
    found = crf.log_partition(emissions, MASK)
    for row in (0, 1):
        scores = torch.tensor([score for _, score in all_paths(crf, emissions, row)])
        assert found[row].item() == pytest.approx(torch.logsumexp(scores, 0).item(), abs=1e-5)


def test_the_decoded_path_is_the_best_of_all(crf, emissions):
    for row, decoded in enumerate(crf.decode(emissions, MASK)):
        assert decoded == max(all_paths(crf, emissions, row), key=lambda found: found[1])[0]


def test_a_path_has_the_score_of_its_terms(crf, emissions):
    paths = torch.tensor([[0, 2, 1, 1], [2, 2, 0, 0]])
    for row, score in enumerate(crf.score(emissions, paths, MASK).tolist()):
        terms = dict((tuple(path), s) for path, s in all_paths(crf, emissions, row))
        assert score == pytest.approx(terms[tuple(paths[row, : LENGTHS[row]].tolist())], abs=1e-5)


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ("O B-a I-a O", {(1, 3, "a")}),
        ("B-a B-a I-b", {(0, 1, "a"), (1, 2, "a"), (2, 3, "b")}),
        ("I-a I-a", {(0, 2, "a")}),
        ("O O", set()),
        ("B-a I-a", {(0, 2, "a")}),
    ],
)
def test_entities_are_whole(tags, found):
    from tagger_data import entities

    assert entities(tags.split()) == found


def test_f1_counts_whole_entities_of_the_right_type():
    from tagger_data import entity_f1

    truth = [["B-a", "I-a", "O"], ["B-b", "O"]]
    assert entity_f1(truth, truth) == 100
    assert entity_f1(truth, [["B-a", "O", "O"], ["B-b", "O"]]) == 50
    assert entity_f1(truth, [["O", "O", "O"], ["O", "O"]]) == 0


@pytest.fixture
def conll(tmp_path) -> Path:
    path = tmp_path / "train.conll"
    blocks = []
    for words, tags in (text.split("\n") for text in SENTENCES * 20):
        pairs = zip(words.split(), tags.split("\t"), strict=True)
        blocks.append("".join(f"{word}\t{tag}\n" for word, tag in pairs))
    path.write_text("\n".join(blocks), "utf-8")
    return path


def test_a_tagger_learns_from_frozen_and_from_fine_tuned_vectors(
    conll, tiny_checkpoint, tiny_bundle, tmp_path, monkeypatch, capsys
):
    import tagger

    tiny_checkpoint.write(tmp_path / "checkpoint")
    words = ["--bundle", tiny_bundle, "--fine-tune", tmp_path / "checkpoint", "--epochs", 1]
    monkeypatch.setattr(sys, "argv", ["tagger.py", *map(str, [conll, conll, *words])])
    tagger.main()
    assert capsys.readouterr().out == "frozen vectors: 100.00\nfine-tuned: 100.00\n"


def test_fine_tuning_moves_the_weights_of_the_elmo(conll, tiny_checkpoint):
    import tagger
    from tagger_data import Inventory, entity_f1, read_conll

    sentences = read_conll(conll)
    inventory = Inventory.of(sentences)
    elmo = Elmo.from_checkpoint(tiny_checkpoint, requires_grad=True)
    before = elmo.char_cnn.projection.weight.detach().clone()
    recipe = tagger.Recipe(epochs=4)
    torch.manual_seed(0)
    model = tagger.Tagger(inventory, tagger.FineTunedVectors(elmo, sentences), recipe)
    tagger.train(model, inventory, sentences, entity_f1, recipe)
    assert (elmo.char_cnn.projection.weight != before).any()


def test_frozen_and_fine_tuned_vectors_begin_equal(conll, tiny_checkpoint, tiny_bundle):
    import tagger
    from tagger_data import Inventory, read_conll

    from elmo_deploy import Embedder

    sentences = read_conll(conll)
    batch = Inventory.of(sentences).batch(sentences, [0, 1])
    live = tagger.FineTunedVectors(Elmo.from_checkpoint(tiny_checkpoint).eval(), sentences)(batch)
    with Embedder.load(tiny_bundle) as embedder:
        frozen = tagger.FrozenVectors.embed(embedder, sentences)(batch)
    for ours, theirs in zip(live, frozen, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-2, rtol=1e-2)  # one is kept in FP16
