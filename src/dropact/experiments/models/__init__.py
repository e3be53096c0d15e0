"""Plain networks by name, unaware of the methods compared on them; one file per family."""

from dropact.experiments.models.external import check_external, is_available
from dropact.experiments.models.registry import (
    NETWORKS,
    WITH_DROPOUT,
    activation_of,
    build_network,
    check_network,
)

__all__ = [
    "NETWORKS",
    "WITH_DROPOUT",
    "activation_of",
    "build_network",
    "check_external",
    "check_network",
    "is_available",
]
