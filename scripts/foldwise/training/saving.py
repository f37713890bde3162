"""Save the state of a running training, so that it goes on after a kill as if nothing had happened."""

from __future__ import annotations

import logging
import signal
import threading
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning

from foldwise.job import Stopped, StopRequest

LOG = logging.getLogger(__name__)


class SaveState(lightning.Callback):
    """Save after every epoch, now and then within one, and at once when the job is asked to end.

    Parameters
    ----------
    folder : Path
        Where the state goes, by the trainer's `StateIO`.
    minutes : float
        Least time between two saves within an epoch.
    stop : StopRequest
        Tells when the job was asked to end; `Stopped` is raised then, after the save.

    Notes
    -----
    It must be the last callback, as it saves what those before it have made of a batch or an epoch. An epoch is saved
    when the next one starts, or training ends: Lightning steps schedules that look at validation only after its last
    hook of an epoch. Other callbacks meet `on_train_epoch_start` a second time if training goes on from there.
    """

    def __init__(self, folder: Path, minutes: float, stop: StopRequest) -> None:
        self.folder = folder
        self.seconds = 60 * minutes
        self.stop = stop
        self.is_finished = False
        self.saved_at = 0.0
        self.saved_step = 0
        self.handler: Any = signal.SIG_DFL

    def setup(self, trainer: lightning.Trainer, module: Any, stage: str) -> None:
        """Give weights the type they are trained in, which Lightning does only after it has loaded them."""
        trainer.precision_plugin.convert_module(module)

    def on_fit_start(self, trainer: lightning.Trainer, module: Any) -> None:
        """Let a training that had ended end at once, as Lightning forgets that it was stopped early."""
        trainer.should_stop = trainer.should_stop or self.is_finished
        self.handler = signal.getsignal(signal.SIGTERM)
        # Lightning cannot know that the loader begins where it must.
        warnings.filterwarnings("ignore", "You're resuming from a checkpoint that ended before the epoch ended")

    def on_train_start(self, trainer: lightning.Trainer, module: Any) -> None:
        """Take the signal to end from Lightning, which would end between two batches without a save."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self.handler)
        self.saved_at, self.saved_step = time.monotonic(), trainer.global_step
        self.end_if_asked(trainer)

    def on_train_epoch_start(self, trainer: lightning.Trainer, module: Any) -> None:
        """Save the epoch before, if it was trained in this run."""
        if trainer.global_step > self.saved_step:
            self.save(trainer, module)
        self.end_if_asked(trainer)

    def on_train_batch_start(self, trainer: lightning.Trainer, module: Any, batch: Any, batch_idx: int) -> None:
        """Let Lightning treat the end of a resumed epoch like any other: else it steps no schedule by validation."""
        if trainer.fit_loop.restarting:
            trainer.fit_loop.restarting = False

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save if it is time and no gradients wait for further batches; the end of an epoch is saved later."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches or trainer.is_last_batch:
            return
        is_due = self.stop.requested or time.monotonic() - self.saved_at >= self.seconds
        if trainer.strategy.reduce_boolean_decision(is_due, all=False):
            self.save(trainer, module)
            self.end_if_asked(trainer)

    def on_train_end(self, trainer: lightning.Trainer, module: Any) -> None:
        """Save that training has ended, so that only results are left to be written."""
        self.is_finished = True
        self.save(trainer, module)
        self.end_if_asked(trainer)

    def save(self, trainer: lightning.Trainer, module: Any) -> None:
        """Save the state, unless a loss is not finite: the state before is worth more then."""
        if check := getattr(module, "check_finite", None):
            check()
        trainer.save_checkpoint(self.folder, weights_only=False)
        self.saved_at, self.saved_step = time.monotonic(), trainer.global_step

    def end_if_asked(self, trainer: lightning.Trainer) -> None:
        """Raise `Stopped` in all processes of the job if one of them was asked to end."""
        if not trainer.strategy.reduce_boolean_decision(self.stop.requested, all=False):
            return
        if trainer.global_step:
            LOG.info("the state of the training is saved in %s; run again to go on from there", self.folder)
        raise Stopped

    def on_save_checkpoint(self, trainer: lightning.Trainer, module: Any, checkpoint: dict[str, Any]) -> None:
        """Count an epoch that has only been announced as not begun, so that it is announced again."""
        epochs = checkpoint["loops"]["fit_loop"]["epoch_progress"]
        for counts in epochs.values():
            counts["ready"] = counts["started"]

    def state_dict(self) -> dict[str, Any]:
        """Return whether training has ended."""
        return {"is_finished": self.is_finished}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take whether training had ended."""
        self.is_finished = state_dict["is_finished"]


def has_ended(state: Mapping[str, Any]) -> bool:
    """Tell whether a saved training had come to its end."""
    return bool(state["callbacks"][SaveState.__qualname__]["is_finished"])
