"""scikit-learn's digits: 1,797 images of 8×8 pixels with 17 grey levels, embedded in scikit-learn (no network).

They come without an official split. Ours, stratified by class under a fixed seed: 300 train, 300 validation, 1,197
test. The test part is large so that one image weighs only 0.08 points of error; the training part is small so that a
network overfits it, which is where a regulariser has something to do.
"""

import torch

from dropact.experiments.data.dataset import SPLIT_SEED, Dataset, stratified_order

TRAIN, VALIDATION, TEST = 300, 300, 1197


def load_digits() -> Dataset:
    """The digits with their fixed split."""
    from sklearn import datasets

    bunch = datasets.load_digits()
    images = torch.from_numpy(bunch.images).to(torch.uint8)
    labels = torch.from_numpy(bunch.target).to(torch.uint8)
    order = stratified_order(labels, SPLIT_SEED)
    train, validation, test = order.split([TRAIN, VALIDATION, TEST])
    return Dataset(
        name="digits",
        num_classes=10,
        x_train=images[train],
        y_train=labels[train],
        x_validation=images[validation],
        y_validation=labels[validation],
        x_test=images[test],
        y_test=labels[test],
    )
