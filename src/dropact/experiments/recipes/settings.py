"""The optimiser of each network, as its own paper trains it; the tables put data set and augmentation beside.

All: SGD with momentum 0.9 [P]. [P] is the Drop-Activation paper ("the same hyper-parameters as in the original papers")
or the original it names; [C] is code. The authors' only released command trains WideResNet-28-10 on CIFAR-100.
What follows holds for every table:

* the whole official training part is trained on, so there is no validation error;
* arithmetic is what the machine is fast at (bfloat16 where it multiplies it in hardware) unless said otherwise; the
  paper does not say its own, which was float32 by its age;
* the result is the last epoch's. The authors' code reports the best one, which the report shows beside.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from dropact.experiments.recipes.recipe import Row

Setting = Mapping[str, Any]

PAPER = "Liang, Khoo and Yang, Drop-Activation, arXiv:1811.05850v1"

_COMMON: Setting = {"momentum": 0.9, "schedule": "step", "train_on": "train+validation"}

# He et al. 2016, 2016b [P]. Their warm-up of ResNet-110 (0.01 at first) is left out, as in the code base behind [C].
RESNET: Setting = {
    **_COMMON,
    "epochs": 164,
    "batch_size": 128,
    "lr": 0.1,
    "milestones": (81, 122),
    "lr_factor": 0.1,
    "weight_decay": 1e-4,
    "nesterov": False,
}

# Zagoruyko and Komodakis 2016 [P]; dropout 0.3 between the convolutions of a block and no Nesterov momentum [C].
# Zagoruyko's own 18.85 and 3.89 are with dropout 0.3 too, but with Nesterov momentum.
WIDE_RESNET: Setting = {
    **_COMMON,
    "epochs": 200,
    "batch_size": 128,
    "lr": 0.1,
    "milestones": (60, 120, 160),
    "lr_factor": 0.2,
    "weight_decay": 5e-4,
    "nesterov": False,
    "dropout": 0.3,
}

# Huang et al. 2017 [P].
DENSENET: Setting = {
    **_COMMON,
    "epochs": 300,
    "batch_size": 64,
    "lr": 0.1,
    "milestones": (150, 225),
    "lr_factor": 0.1,
    "weight_decay": 1e-4,
    "nesterov": True,
}

# "except that the batch-size for DenseNet-BC-190-40 is set to 32" [P].
DENSENET_190: Setting = {**DENSENET, "batch_size": 32}

# Xie et al. 2017 [P].
RESNEXT: Setting = {**DENSENET, "batch_size": 128, "weight_decay": 5e-4}

# DeVries and Taylor 2017, whose code the paper uses for Table 5 [P]; dropout 0.3 in its WideResNet [C, theirs].
CUTOUT: Setting = {name: value for name, value in WIDE_RESNET.items() if name != "dropout"} | {"nesterov": True}

# The networks of Tables 1, 2 and 4, trained alike on all data sets.
TRAINED: Mapping[str, tuple[str, Setting]] = {
    "resnet-110": ("ResNet-110", RESNET),
    "resnet-164": ("ResNet-164", RESNET),
    "preresnet-164": ("PreResNet-164", RESNET),
    "wrn-28-10": ("WideResNet-28-10", WIDE_RESNET),
    "densenet-bc-100-12": ("DenseNet-BC-100-12", DENSENET),
    "densenet-bc-190-40": ("DenseNet-BC-190-40", DENSENET_190),
    "resnext-29-8x64d": ("ResNeXt-29-8×64d", RESNEXT),
}


def paper_rows(
    data: Setting, errors: Mapping[str, Mapping[str, float]], notes: Mapping[str, Sequence[str]] | None = None
) -> tuple[Row, ...]:
    """A row for each network: trained on the data as above, with the printed errors of its methods, and notes."""
    return tuple(
        Row.of(name, TRAINED[name][0], {**data, **TRAINED[name][1]}, printed, (notes or {}).get(name, ()))
        for name, printed in errors.items()
    )


PRINTED_AS_20_10 = (
    "Printed as WideResNet-20-10. The errors quoted in the same line are those of WideResNet-28-10, and 20 is not of "
    "the form 6n + 4 that a WideResNet's depth has: 28-10 is trained here."
)
