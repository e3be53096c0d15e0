"""Plain networks by name, unaware of the methods compared on them; one file per family."""

from dropact.experiments.models.registry import NETWORKS, build_network

__all__ = ["NETWORKS", "build_network"]
