"""The files of a save: held-out perplexity, state, checkpoint, best checkpoint and curve."""

from __future__ import annotations

from elmo_deploy.training.data.vocabulary import Vocabulary
from elmo_deploy.training.evaluation.heldout import HeldoutText
from elmo_deploy.training.learner import Learner
from elmo_deploy.training.run.folder import RunFolder
from elmo_deploy.training.run.reporting import Reporter
from elmo_export.checkpoint import Checkpoint


class Saver:
    """Saves a run. Every process calls it; the one with the reporter writes."""

    def __init__(
        self,
        folder: RunFolder,
        *,
        learner: Learner,
        vocabulary: Vocabulary,
        reporter: Reporter | None,
        heldout: HeldoutText | None,
    ) -> None:
        self._folder = folder
        self._learner = learner
        self._vocabulary = vocabulary
        self._reporter = reporter
        self._heldout = heldout
        self._saved_step: int | None = None

    def measure(self) -> None:
        """Record the held-out perplexity, and write the model if it is the best so far.

        This comes before `save`: a run that is killed in between measures this step again.
        """
        if self._reporter is None or self._heldout is None:
            return
        metrics = self._heldout.measure(self._learner.model, self._learner.step)
        if self._reporter.record_heldout(metrics):
            self._folder.write_best(self._checkpoint())

    def save(self) -> None:
        """Write the state of the step, the checkpoint and the curve, once per step."""
        if self._saved_step == self._learner.step:
            return
        state = self._learner.state()  # every process gives its part of it
        self._saved_step = self._learner.step
        if self._reporter is None:
            return
        self._folder.save(self._learner.step, state)
        self._folder.write_checkpoint(self._checkpoint())
        self._reporter.draw()

    def _checkpoint(self) -> Checkpoint:
        provenance = {"trained by": "elmo-deploy train", "steps": str(self._learner.step)}
        return self._learner.model.to_checkpoint(self._vocabulary.words, provenance=provenance)
