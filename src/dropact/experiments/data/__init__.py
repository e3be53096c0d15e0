"""Data sets by name, each with one fixed train / validation / test split."""

from dropact.experiments.data.dataset import Dataset
from dropact.experiments.data.registry import DATASETS, load_dataset

__all__ = ["DATASETS", "Dataset", "load_dataset"]
