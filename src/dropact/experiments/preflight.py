"""What can be refused before a folder is claimed and before the first run of a grid is trained."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from dropact.experiments.batches import check_microbatches
from dropact.experiments.config import RunConfig
from dropact.experiments.data import Dataset
from dropact.experiments.errors import RecordError
from dropact.experiments.hardware import check_pace
from dropact.experiments.ranks import ALONE, Ranks
from dropact.experiments.records import Run
from dropact.experiments.trainer import check_sync, initial_network

SAMPLED = 8  # images for methods that look at some: enough to find out whether they can


def check_runnable(
    configs: Sequence[RunConfig], data: Sequence[Dataset], device: torch.device | None, ranks: Ranks = ALONE
) -> None:
    """That every config can be trained: its network is built, changed by its method, and thrown away.

    Args:
        data: that of the configs.
        device: None where they are trained on other machines, whose abilities show only there.

    Raises:
        ConfigError: one cannot; as its run would say, once its turn came.
    """
    sets = {each.name: each for each in data}
    kinds = {replace(config, seed=0).key: config for config in configs}
    with torch.random.fork_rng(devices=[]):
        for config in kinds.values():
            of = sets[config.dataset]
            held_out = config.train_on == "train"
            check_microbatches(config, len(of.y_train) + (0 if held_out else len(of.y_validation)))
            if device is not None:
                check_pace(config, device)
                check_sync(config, device, ranks)
            initial_network(config, of, SAMPLED)


def check_data(finished: Sequence[Run], data: Sequence[Dataset]) -> None:
    """That runs which those to come will be compared with were trained on the same images.

    Raises:
        RecordError: the checksum of one's data is another.
    """
    here = {each.name: each.sha256 for each in data}
    for run in finished:
        then = run.environment.get("data_sha256")
        now = here.get(run.config.dataset, then)
        if then is not None and then != now:
            raise RecordError(
                f"{run.config.key}: trained on {run.config.dataset} of checksum {str(then)[:12]}, those here have "
                f"{str(now)[:12]}; choose another --out, or bring the data of then"
            )
