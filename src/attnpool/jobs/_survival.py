"""What a run needs to go on after it was stopped or killed, on disk after every epoch and when it is told to stop."""

import signal
import threading
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from attnpool.data.order import Order
from attnpool.jobs._folder import STATE


class Stopped(KeyboardInterrupt):
    """A run ended early, at a signal; the message says where it stands.

    Args:
        message: One line.
        signum: The signal.

    Attributes:
        signum: The signal.
        code: The exit code of a command that ends so: 130 for Ctrl-C, 143 for SIGTERM.
    """

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.signum, self.code = signum, 128 + signum


class StopTraining(Exception):  # noqa: N818 - it is no error
    """Leave Lightning's loop: the state is written."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"signal {signum}")
        self.signum = signum


class Survival(pl.Callback):
    """Writes the state of the run after every epoch, every so many steps, and before it ends at SIGTERM or Ctrl-C.

    A state is of a moment between two steps. A second Ctrl-C does not wait for it. In several processes all stop after
    the same step, whichever of them got the signal.

    Args:
        folder: Of the run.
        order: Of the training images.
        every: Steps between two states; None: only epochs count.
        workers: Processes that read a stream, on which its order depends; None: the data is none.
    """

    def __init__(self, folder: Path, order: Order, every: int | None = None, workers: int | None = None) -> None:
        self.file, self.order, self.every = folder / STATE, order, every
        self.reader = {} if workers is None else {"workers": workers}
        self.received = 0
        self._position = (0, 0)

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGTERM, signal.SIGINT):
                signal.signal(signum, self._note)  # Lightning puts back what was there before

    def _note(self, signum: int, frame: Any) -> None:
        if self.received and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signum

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        loop = trainer.fit_loop
        if loop._should_accumulate() or loop.epoch_loop._num_ready_batches_reached():
            return  # not between two steps; or the epoch's end, which is near
        self._save(trainer, (trainer.current_epoch, (batch_idx + 1) * self.order.batch_size), self._is_due(trainer))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._save(trainer, (trainer.current_epoch + 1, 0), due=True)

    def _is_due(self, trainer: pl.Trainer) -> bool:
        return self.every is not None and trainer.global_step % self.every == 0

    def _save(self, trainer: pl.Trainer, position: tuple[int, int], due: bool) -> None:
        stopping = trainer.strategy.reduce_boolean_decision(bool(self.received), all=False)
        if due or stopping:
            self._position = position
            trainer.save_checkpoint(self.file)
        if stopping:
            raise StopTraining(self.received or signal.SIGTERM)

    def state_dict(self) -> dict[str, Any]:
        epoch, images = self._position
        return {"epoch": epoch, "images": images, "parts": self.order.parts, "of": self.order.images, **self.reader}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the order of the images go on where it was.

        Raises:
            ValueError: for another number of images; in mid-epoch, for another number of processes or accumulated
                batches, or of workers that read a stream.
        """
        if state["of"] != self.order.images:
            raise ValueError(
                f"data has to have the {state['of']} images to train on that it had, but has {self.order.images}"
            )
        if state["images"] and {name: state.get(name) for name in self.reader} != self.reader:
            had, has = state.get("workers"), self.reader["workers"]
            raise ValueError(f"workers has to be {had} to go on in mid-epoch of a stream, but is {has}")
        if state["images"] and state["parts"] != self.order.parts:
            raise ValueError(
                f"processes x accumulate has to be {state['parts']} to go on in mid-epoch, but is {self.order.parts}"
            )
        self.order.skip(state["epoch"], state["images"])
