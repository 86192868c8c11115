"""The perplexity of held-out text while a model learns, the best checkpoint, and the curve."""

import json
import math

import pytest
from matplotlib.figure import Figure

from elmo_deploy.training import evaluate, score
from elmo_deploy.training.data.shards import read_all_sentences
from elmo_deploy.training.run.curve import draw_curve
from elmo_deploy.training.run.metrics import HeldoutMetrics, Metrics, read_metrics, read_records
from elmo_deploy.training.run.saving import Saver
from elmo_export.checkpoint import Checkpoint
from elmo_runtime.errors import InputError

pytestmark = pytest.mark.slow


def heldout_metrics(step):
    return HeldoutMetrics(step, 90.0, 80.0, 100.0, 95.0, 85.0, 105.0, 0.01)


def heldout_records(folder):
    return read_records(folder / "heldout.jsonl", HeldoutMetrics)


@pytest.fixture(scope="module")
def heldout(shards):
    """The second file, as if it were not learned from."""
    return shards[1:]


def test_every_save_measures_what_evaluate_and_score_report(options, run, heldout, tmp_path):
    """Nothing showed that a model predicted badly from the zero state before training ended."""
    result = run(options(), tmp_path / "run", heldout=heldout)
    records = heldout_records(tmp_path / "run")
    assert [record.step for record in records] == [7, 14, 20]
    last = records[-1]
    assert result.heldout == last
    trained = Checkpoint.read(result.checkpoint)
    measured = evaluate(trained, shards=heldout, batch_size=60 // 8, device="cpu")
    assert last.perplexity == pytest.approx(measured.perplexity)
    assert last.forward_perplexity == pytest.approx(measured.forward_perplexity)
    assert last.unknown_share == pytest.approx(measured.unknown_share)
    scores = list(score(trained, read_all_sentences(heldout), device="cpu"))
    loss = -sum(s.forward + s.backward for s in scores) / sum(2 * (s.n_tokens + 1) for s in scores)
    assert last.zero_state_perplexity == pytest.approx(math.exp(loss))


def test_the_best_checkpoint_is_kept(options, run, heldout, tmp_path):
    result = run(options(learning_rate=2.0, n_epochs=3), tmp_path / "run", heldout=heldout)
    records = heldout_records(tmp_path / "run")
    best = min(records, key=lambda record: record.zero_state_perplexity)
    kept = Checkpoint.read(result.best)
    assert kept.provenance["steps"] == str(best.step)
    measured = evaluate(kept, shards=heldout, batch_size=60 // 8, device="cpu")
    assert measured.perplexity == pytest.approx(best.perplexity)


def test_measuring_does_not_change_the_run(options, run, heldout, tmp_path):
    run(options(), tmp_path / "with", heldout=heldout)
    run(options(), tmp_path / "without")
    with_heldout, without = (
        [(r.step, r.loss) for r in read_metrics(tmp_path / name / "metrics.jsonl")]
        for name in ("with", "without")
    )
    assert with_heldout == without
    assert not (tmp_path / "without" / "best").exists()
    assert not (tmp_path / "without" / "heldout.jsonl").exists()


def test_a_resumed_run_measures_the_same(options, run, heldout, tmp_path, monkeypatch):
    run(options(), tmp_path / "unbroken", heldout=heldout)
    measure = Saver.measure

    def measure_and_fail(saver):
        measure(saver)
        if saver._learner.step == 14:
            raise KeyboardInterrupt

    monkeypatch.setattr(Saver, "measure", measure_and_fail)
    with pytest.raises(KeyboardInterrupt):
        run(options(), tmp_path / "broken", heldout=heldout)
    assert [record.step for record in heldout_records(tmp_path / "broken")] == [7, 14]
    monkeypatch.setattr(Saver, "measure", measure)
    run(options(), tmp_path / "broken", heldout=heldout, resume=True)
    assert heldout_records(tmp_path / "broken") == heldout_records(tmp_path / "unbroken")
    weights = [
        (tmp_path / name / "best" / "model.safetensors").read_bytes()
        for name in ("broken", "unbroken")
    ]
    assert weights[0] == weights[1]


def test_an_empty_heldout_text_is_refused_before_the_first_step(options, run, tmp_path):
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(InputError, match="the held-out files contain no sentence"):
        run(options(), tmp_path / "run", heldout=[tmp_path / "empty.txt"])
    assert not (tmp_path / "run").exists()


def test_checkpoint_and_curve_are_written_at_every_save(options, run, tmp_path, monkeypatch):
    """Both came with the last step only, so a run of days had nothing to look at."""
    seen = []
    save = Saver.save

    def save_and_look(saver):
        save(saver)
        steps = Checkpoint.read(tmp_path / "run" / "checkpoint").provenance["steps"]
        curve = (tmp_path / "run" / "learning-curve.png").read_bytes()
        seen.append((int(steps), curve.startswith(b"\x89PNG")))

    monkeypatch.setattr(Saver, "save", save_and_look)
    run(options(), tmp_path / "run")
    assert sorted(set(seen)) == [(7, True), (14, True), (20, True)]


def test_a_run_without_a_terminal_reports_the_time_left(options, run, tmp_path, capsys):
    """Only the progress bar of a terminal showed it."""
    run(options(), tmp_path / "run", show=True)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("step 5 of 20  loss ")
    assert all(line.endswith(" left") for line in lines)


def metrics(step, loss):
    return Metrics(step, loss, loss, loss + 0.1, 0.2, 1.0, 100.0, 10.0)


@pytest.mark.parametrize("losses", [(9.0, 4.0), (4.0, 3.8), (20.0, 19.9)])
def test_the_curve_has_plain_numbers_and_names_the_sampled_softmax(tmp_path, monkeypatch, losses):
    """The axis was labeled 6 x 10^1, and did not say that the perplexity is a sampled one."""
    drawn = []
    savefig = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda figure, *a, **k: (drawn.append(figure), savefig(figure, *a, **k))
    )
    records = [metrics(100 * (place + 1), loss) for place, loss in enumerate(losses)]
    draw_curve(tmp_path / "curve.png", records, [], sampled=True)
    (axes,) = drawn[0].axes
    assert axes.get_ylabel() == "training perplexity (sampled softmax)"
    low, high = axes.get_ylim()
    shown = [
        label.get_text()
        for label, value in zip(axes.get_yticklabels(), axes.get_yticks(), strict=True)
        if low <= value <= high
    ]
    assert len(shown) >= 2
    assert all(float(text.replace(",", "")) > 0 for text in shown)


@pytest.mark.parametrize("heldout", [[], [heldout_metrics(100)]], ids=["alone", "with heldout"])
@pytest.mark.parametrize("sampled", [True, False])
def test_the_label_of_the_curve_is_not_cut(tmp_path, monkeypatch, heldout, sampled):
    """A label that named both perplexities was longer than the picture is high."""
    drawn = []
    savefig = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda figure, *a, **k: (drawn.append(figure), savefig(figure, *a, **k))
    )
    draw_curve(tmp_path / "curve.png", [metrics(100, 5.0)], heldout, sampled=sampled)
    label = drawn[0].axes[0].yaxis.label
    assert ("sampled softmax" in label.get_text()) == sampled
    box = label.get_window_extent()
    assert box.y0 >= 0 and box.y1 <= drawn[0].bbox.height


def test_heldout_records_are_json_a_program_can_read(options, run, heldout, tmp_path):
    run(options(), tmp_path / "run", heldout=heldout)
    lines = (tmp_path / "run" / "heldout.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["zero_state_perplexity"] > 1
    assert list((tmp_path / "run" / "tensorboard").glob("events.*"))
