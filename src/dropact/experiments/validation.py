"""What can be refused before a folder is claimed and before the first run of a grid is trained."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from dropact.experiments.batches import trained_on
from dropact.experiments.config import RunConfig
from dropact.experiments.data import Dataset, load_dataset
from dropact.experiments.errors import RecordError
from dropact.experiments.hardware import check_trainable
from dropact.experiments.models import check_external, is_available
from dropact.experiments.ranks import ALONE, Ranks
from dropact.experiments.records import Run
from dropact.experiments.trainer import initial_network

LOOKED_AT = 8  # images for methods that look at some: enough to find out whether they can


def load_data(configs: Sequence[RunConfig], root: Path | None, elsewhere: bool = False) -> list[Dataset]:
    """The data sets of configs, each once, when it is known that their networks are there: data may be a download.

    Args:
        root: as for `load_dataset`.
        elsewhere: whether they are trained on other machines, which may have packages that this one lacks.

    Raises:
        ConfigError, DataError: a network or a data set is not to be had.
    """
    for network in dict.fromkeys(config.network for config in configs):
        if not elsewhere or is_available(network):
            check_external(network)
    return [load_dataset(name, root) for name in dict.fromkeys(config.dataset for config in configs)]


def check_runnable(
    configs: Sequence[RunConfig], data: Sequence[Dataset], device: torch.device | None, ranks: Ranks = ALONE
) -> None:
    """That every config can be trained: its network is built, changed by its method, and thrown away.

    Args:
        data: that of the configs.
        device: None where they are trained on other machines, whose abilities and packages show only there.

    Raises:
        ConfigError: one cannot; as its run would say, once its turn came.
    """
    sets = {each.name: each for each in data}
    kinds = {replace(config, seed=0).key: config for config in configs}
    with torch.random.fork_rng(devices=[]):
        for config in kinds.values():
            of = sets[config.dataset]
            check_trainable(config, trained_on(config, len(of.y_train), len(of.y_validation)), device, ranks)
            if device is not None or is_available(config.network):
                initial_network(config, of, LOOKED_AT)


def check_data(finished: Sequence[Run], data: Sequence[Dataset]) -> None:
    """That runs were trained on the same images as those here.

    Raises:
        RecordError: the checksum of one's data is another.
    """
    here = {each.name: each.sha256 for each in data}
    for run in finished:
        then = run.environment.get("data_sha256")
        now = here.get(run.config.dataset, then)
        if then is not None and then != now:
            raise RecordError(
                f"{run.config.key}: trained on {run.config.dataset} of checksum {str(then)[:12]}, that here has "
                f"{str(now)[:12]}"
            )
