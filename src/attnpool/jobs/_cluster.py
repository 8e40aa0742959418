"""Which of a run's processes this one is, as torchrun or SLURM started them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch.distributed as dist

STARTED = ("TORCHELASTIC_RUN_ID", "SLURM_NTASKS")
"""What torchrun and `srun` set. Without either Lightning is not imported to be asked; most verbs need nothing of it."""


@dataclass(frozen=True)
class Processes:
    """The processes that train one network together.

    Args:
        rank: Number of this one, from 0; it alone writes files.
        count: How many there are.
        nodes: On how many machines.
    """

    rank: int = 0
    count: int = 1
    nodes: int = 1

    @property
    def writes(self) -> bool:
        """Whether this process is the one that writes files and speaks to the user."""
        return self.rank == 0

    def trainer_options(self, find_unused: bool = False) -> dict[str, Any]:
        """What Lightning's trainer has to be told; one process alone uses one device, however many there are.

        Args:
            find_unused: Whether some parameters may get no gradient in a step.
        """
        options: dict[str, Any] = {"devices": self.count // self.nodes, "num_nodes": self.nodes}
        if self.count > 1:
            options["strategy"] = "ddp_find_unused_parameters_true" if find_unused else "ddp"
            options["use_distributed_sampler"] = False  # the loaders share out the images themselves
        return options

    def plugins(self) -> list[Any]:
        """What Lightning's trainer needs on a cluster."""
        from pytorch_lightning.plugins.environments import SLURMEnvironment

        return [SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else []  # a run goes on by --resume


ALONE = Processes()


@contextmanager
def together(me: Processes) -> Iterator[None]:
    """A block that the processes leave together; the connection between them is closed after it."""
    try:
        yield
        if me.count > 1 and dist.is_initialized():
            dist.barrier()
    finally:
        if me.count > 1 and dist.is_initialized():
            dist.destroy_process_group()


def processes() -> Processes:
    """This process and its fellows, from the environment that torchrun or `srun` sets; alone without them."""
    if not any(name in os.environ for name in STARTED):
        return ALONE
    from pytorch_lightning.plugins.environments import SLURMEnvironment, TorchElasticEnvironment

    if TorchElasticEnvironment.detect():
        found = TorchElasticEnvironment()
        count, local = found.world_size(), int(os.environ["LOCAL_WORLD_SIZE"])
        return Processes(found.global_rank(), count, count // local)
    if SLURMEnvironment.detect():
        slurm = SLURMEnvironment(auto_requeue=False)
        return Processes(slurm.global_rank(), slurm.world_size(), int(os.environ.get("SLURM_NNODES", "1")))
    return ALONE
