"""What is known before the first step is reported or refused before it."""

import sys
from dataclasses import replace

import pytest

from elmo_deploy.training import TrainingOptions, Vocabulary, evaluate, score, train
from elmo_deploy.training.data.coverage import Coverage
from elmo_deploy.training.data.shards import read_all_sentences
from elmo_deploy.training.data.vocabulary import MARKS, VocabularyError
from elmo_deploy.training.preparation import count_tokens, estimate_tokens, prepare
from elmo_deploy.training.run.metrics import read_metrics
from elmo_deploy.training.run.saving import Saver
from elmo_export.checkpoint import Checkpoint
from elmo_runtime.errors import BackendUnavailableError, ConfigError
from random_models import tiny_config

preparation = "elmo_deploy.training.preparation"


@pytest.fixture(scope="module")
def uppercase(vocabulary) -> Vocabulary:
    """A vocabulary that differs from the text in case only."""
    return Vocabulary((*MARKS, *(word.upper() for word in vocabulary.words[3:])), "VOCAB.txt")


def test_a_vocabulary_in_another_case_is_refused(options, shards, uppercase, tmp_path):
    """Every word was <UNK>, and training continued and reported a perplexity of 1.4."""
    with pytest.raises(VocabularyError, match=r"VOCAB.txt does not fit the text: 9\d") as raised:
        train(options(), shards=shards, vocabulary=uppercase, run=tmp_path / "run", device="cpu")
    assert "most frequent one is 'the', while line 4 of the vocabulary is 'THE'" in str(
        raised.value
    )
    assert not (tmp_path / "run").exists()


def test_a_vocabulary_that_lacks_half_of_the_words_is_reported(options, shards, vocabulary):
    """Only the most frequent word is known, which is a third of the text."""
    small = Vocabulary(vocabulary.words[:4])
    (remark,) = prepare(
        options(n_train_tokens=None, sample_softmax=False), shards, small, max_unknown=1.0
    ).remarks
    assert "the vocabulary fits the text badly: 6" in remark and "elmo-deploy vocabulary" in remark


def test_a_user_may_accept_such_a_vocabulary(options, shards, uppercase, tmp_path):
    arguments = {"shards": shards, "vocabulary": uppercase, "device": "cpu"}
    result = train(options(), run=tmp_path / "run", max_unknown=1.0, **arguments)
    assert result.last.unknown_share > 0.9


def test_every_perplexity_comes_with_the_share_of_unknown_words(
    options, run, shards, vocabulary, tmp_path
):
    """A perplexity of 1.4 was reported without a hint that every word was <UNK>."""
    share = Coverage.measure(vocabulary, read_all_sentences(shards)).unknown_share
    assert 0.03 < share < 0.3
    result = run(options(n_train_tokens=None, n_epochs=2), tmp_path / "run")
    records = read_metrics(tmp_path / "run" / "metrics.jsonl")
    mean = sum(record.unknown_share for record in records) / len(records)
    assert mean == pytest.approx(share, abs=0.02)
    trained = Checkpoint.read(result.checkpoint)
    measured = evaluate(trained, shards=shards, batch_size=1, device="cpu")
    assert measured.unknown_share == pytest.approx(share)


def test_the_share_of_unknown_words_survives_a_resume(options, run, tmp_path, monkeypatch):
    """The state of step 14 holds the counts since the record of step 9."""
    run(options(), tmp_path / "unbroken", log_every=9)
    save = Saver.save

    def save_and_end(saver):
        save(saver)
        if saver._learner.step == 14:
            raise KeyboardInterrupt

    monkeypatch.setattr(Saver, "save", save_and_end)
    with pytest.raises(KeyboardInterrupt):
        run(options(), tmp_path / "resumed", log_every=9)
    monkeypatch.setattr(Saver, "save", save)
    run(options(), tmp_path / "resumed", log_every=9, resume=True)
    unbroken, resumed = (
        [(r.step, r.unknown_share) for r in read_metrics(tmp_path / name / "metrics.jsonl")]
        for name in ("unbroken", "resumed")
    )
    assert unbroken == resumed
    assert [step for step, _ in unbroken] == [9, 18, 20]


def test_an_evaluation_of_unknown_words_warns(options, run, shards, uppercase, tmp_path, caplog):
    """`evaluate` printed the perplexity of a text of nothing but <UNK> without a remark."""
    trained = Checkpoint.read(run(options(), tmp_path / "run").checkpoint)
    evaluate(trained, shards=shards, batch_size=4, device="cpu")
    assert "unknown to the vocabulary" not in caplog.text
    shouted = replace(trained, vocabulary=uppercase.words)
    evaluate(shouted, shards=shards, batch_size=4, device="cpu")
    assert "of the words are unknown to the vocabulary of the checkpoint" in caplog.text
    caplog.clear()
    scores = list(score(shouted, read_all_sentences(shards), device="cpu"))
    assert "of the words are unknown to the vocabulary of the checkpoint" in caplog.text
    assert sum(s.n_unknown for s in scores) / sum(s.n_tokens for s in scores) > 0.9


def test_a_wrong_size_of_the_text_is_reported_before_the_first_step(options, shards, vocabulary):
    """Options copied from the 1B Word Benchmark read a small text a million times, silently."""
    n_tokens = count_tokens(shards)
    (remark,) = prepare(options(n_train_tokens=768_648_884), shards, vocabulary).remarks
    assert f"n_train_tokens is 768,648,884, but the text has about {n_tokens:,} tokens" in remark
    assert f"set it to {n_tokens}" in remark
    for right in (None, n_tokens, round(n_tokens * 1.05)):
        assert prepare(options(n_train_tokens=right), shards, vocabulary).remarks == ()


def test_a_large_text_is_estimated_from_some_of_its_files(tmp_path, monkeypatch):
    for number in range(20):
        (tmp_path / f"{number:02}.txt").write_text("the cat sat\n" * (50 + number), "utf-8")
    shards = sorted(tmp_path.iterdir())
    exact = count_tokens(shards)
    assert estimate_tokens(shards) == exact
    monkeypatch.setattr(f"{preparation}.COUNTED", 3000)
    assert estimate_tokens(shards) == pytest.approx(exact, rel=0.05)


def test_the_default_recipe_fits_a_small_vocabulary(shards, vocabulary, tmp_path):
    """`train --from` with a small vocabulary asked for 8192 negatives of 13 words and failed."""
    recipe = TrainingOptions(model=tiny_config(), batch_size=4, unroll_steps=5, n_epochs=1)
    completed, remarks = prepare(recipe, shards, vocabulary)
    assert not completed.sample_softmax
    assert "has 13 words, not more than the usual 8,192 negatives" in remarks[0]
    result = train(recipe, shards=shards, vocabulary=vocabulary, run=tmp_path / "r", device="cpu")
    assert result.finished


def test_a_large_vocabulary_keeps_the_negatives_of_the_paper():
    recipe = TrainingOptions(model=tiny_config()).for_vocabulary(8193)
    assert (recipe.sample_softmax, recipe.n_negative_samples_batch) == (True, 8192)


def test_too_many_negatives_are_refused_with_the_option_that_helps(options, shards, vocabulary):
    with pytest.raises(ConfigError, match=r"fewer than 13 with --negatives N.*--negatives 0"):
        prepare(options(n_negative_samples_batch=8192), shards, vocabulary)


@pytest.mark.parametrize("package", ["matplotlib", "tensorboard"])
def test_a_missing_package_is_found_before_the_first_step(
    options, run, tmp_path, monkeypatch, package
):
    """Without matplotlib a run failed when its last step was done."""
    loaded = [name for name in sys.modules if package in name.split(".")]
    for name in loaded:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(BackendUnavailableError, match=r"cannot be imported.*elmo-deploy\[train\]"):
        run(options(), tmp_path / "run")
    assert not (tmp_path / "run").exists()
