"""Runs spread over a Ray cluster: one task for each, which Ray starts anew elsewhere when its process or node dies."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from dropact.experiments.config import RunConfig
from dropact.experiments.errors import ConfigError, UserError
from dropact.experiments.launchers.grid import ATTEMPTS, Launcher, LostError

PENDING = 1000  # tasks that Ray knows of: enough for it to see what a larger cluster would do, and bounded memory

T = TypeVar("T")


class ClusterWarning(UserWarning):
    """The cluster cannot do what is asked of it, as it is now."""


def ray_cluster(address: str | None = None, cpus: float = 1.0, gpus: float = 0.0) -> Launcher[T]:
    """Trains runs on the cluster at `address`.

    Args:
        address: as `ray.init` takes it; None is the cluster that this machine belongs to, else one of this machine.
        cpus, gpus: of each run; 0.25 GPUs have four runs share one.

    Raises:
        ModuleNotFoundError: ray is not installed.
        ConfigError: there is no cluster at the address.

    Warns:
        ClusterWarning: no node has what a run needs; the runs wait for one that joins.
    """

    def over(task: Callable[[RunConfig], T], configs: Sequence[RunConfig]) -> Iterator[tuple[RunConfig, T | UserError]]:
        import ray

        ours = not ray.is_initialized()
        if ours:
            _join(ray, address)
        needed = {"CPU": cpus, "GPU": gpus}
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if not any(all(node.get(what, 0.0) >= amount for what, amount in needed.items()) for node in nodes):
            warnings.warn(
                f"no node of the cluster has the {cpus:g} cores and {gpus:g} GPUs of a run: all wait for one",
                ClusterWarning,
                stacklevel=2,
            )
        pending: dict[Any, RunConfig] = {}
        try:
            sent = ray.put(task)
            call: Any = ray.remote(_call).options(num_cpus=cpus, num_gpus=gpus, max_retries=ATTEMPTS - 1)
            left = iter(configs)
            while True:
                for config in islice(left, PENDING - len(pending)):
                    pending[call.remote(sent, config)] = config
                if not pending:
                    return
                ray.wait(list(pending))
                ready, _ = ray.wait(list(pending), num_returns=len(pending), timeout=0)
                for reference in ready:
                    config = pending.pop(reference)
                    try:
                        yield config, ray.get(reference)
                    except ray.exceptions.RayTaskError:  # an error that is ours, and no user's
                        raise
                    except ray.exceptions.RayError as error:
                        yield config, LostError(config, f"with {type(error).__name__}")
        finally:
            for reference in pending:
                ray.cancel(reference, force=True)
            if ours:
                ray.shutdown()

    return over


def _call(task: Callable[[RunConfig], T], config: RunConfig) -> T:
    return task(config)


def _join(ray: Any, address: str | None) -> None:
    try:
        # A cluster that only this grid uses needs no page of its own.
        bare: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **bare)
    except (ConnectionError, ValueError) as error:
        raise ConfigError(f"ray: no cluster at {address!r} ({error}), accepted: host:port of one that runs") from None
