"""Where the methods help: studies of ours at few training images, each with the same number of steps.

All ours, none of a paper's. The regime is that of a regulariser: the training images are few enough to be learnt by
heart. Every run of a study takes 2,400 steps of 125 images (60 epochs of 5,000 images), crop and flip, one cycle up to
0.1, weight decay 5e-4; where the question is another, the row says what is changed. The validation part (5,000 images
of the official training part) is there to choose a rate by; the test error is that of the last epoch.
"""

from collections.abc import Mapping, Sequence

from dropact.experiments.recipes.recipe import Recipe, Row
from dropact.experiments.recipes.settings import Setting

SOURCE = "none; a study of ours"
STEPS, BATCH = 2400, 125
IMAGES = 5000
STUDY_SEEDS = 10
RATES = (0.02, 0.05, 0.1, 0.15, 0.2)
FEW_RATES = (0.05, 0.1)
EVALUATIONS = 10
_OTHERS: Mapping[str, Mapping[str, float]] = {"baseline": {}, "dropout": {"rate": 0.5}, "rrelu": {}}


def setting(
    images: int | None = IMAGES, steps: int = STEPS, dataset: str = "cifar10", network: str = "simple"
) -> Setting:
    """`steps` steps on so many images; None is all of them, without a validation part."""
    epochs = steps * BATCH // (50_000 if images is None else images)
    return {
        "dataset": dataset,
        "network": network,
        "train_images": images,
        "train_on": "train+validation" if images is None else "train",
        "epochs": epochs,
        "evaluate_every": max(1, epochs // EVALUATIONS),
        "batch_size": BATCH,
        "lr": 0.1,
        "schedule": "one-cycle",
        "weight_decay": 5e-4,
        "augmentation": "crop+flip",
        "precision": "bfloat16",
        "memory_format": "channels_last",
    }


def rows(
    name: str, label: str, of: Setting, rates: Sequence[float], others: Mapping[str, Mapping[str, float]]
) -> tuple[Row, ...]:
    """One row of the methods in `others`, and one for each rate of Drop-Activation: all of one setting."""
    return (
        Row(name, label, of, others),
        *(
            Row(f"{name}-{rate:g}", f"{label}, drop_prob {rate:g}", of, {"drop-activation": {"drop_prob": rate}})
            for rate in rates
        ),
    )


def _by_images(name: str, title: str, dataset: str, counts: Sequence[int | None]) -> Recipe:
    return Recipe(
        name=name,
        title=f"Training images and drop rate: test error (%) of the simple network on {title}",
        source=SOURCE,
        rows=tuple(
            row
            for images in counts
            for row in rows(
                f"{images or 50_000}", f"{images or 50_000:,} images", setting(images, dataset=dataset), RATES, _OTHERS
            )
        ),
        seeds=STUDY_SEEDS,
        notes=("The question: with how many training images, and at which rate, does Drop-Activation help?",),
    )


def data_rate() -> Recipe:
    """How the gain depends on the number of training images and on the rate, on CIFAR-10."""
    return _by_images("data-rate", "CIFAR-10", "cifar10", (1000, 2500, 5000, 10_000, 25_000, None))


def data_rate_cifar100() -> Recipe:
    """The same question on CIFAR-100."""
    return _by_images("data-rate-cifar100", "CIFAR-100", "cifar100", (5000, 15_000, None))


def capacity() -> Recipe:
    """Does the gain grow with the network, as "implicit parameter reduction" says? Width and depth at 5,000 images."""
    networks = ["simple-half", "simple", "simple-double", "resnet-20", "resnet-56", "wrn-16-1", "wrn-16-2", "wrn-16-4"]
    return Recipe(
        name="capacity",
        title="Width and depth: test error (%) on 5,000 images of CIFAR-10",
        source=SOURCE,
        rows=tuple(
            row for name in networks for row in rows(name, name, setting(network=name), FEW_RATES, {"baseline": {}})
        ),
        seeds=STUDY_SEEDS,
        notes=("The question: does the gain grow with the capacity of the network?",),
    )


def length() -> Recipe:
    """A quarter, once and four times the steps, at 5,000 images."""
    return Recipe(
        name="length",
        title="Length of training: test error (%) of the simple network on 5,000 images of CIFAR-10",
        source=SOURCE,
        rows=tuple(
            row
            for steps in (STEPS // 4, STEPS, 4 * STEPS)
            for row in rows(f"{steps}", f"{steps:,} steps", setting(steps=steps), FEW_RATES, {"baseline": {}})
        ),
        seeds=STUDY_SEEDS,
        notes=("The question: does the gain depend on how long is trained?",),
    )


def harmony() -> Recipe:
    """The claim of Tables 5 and 6 at few images: is Drop-Activation beside another regulariser better than either?"""
    plain = setting()
    bare = {**plain, "augmentation": "none"}
    # Without BatchNorm a learning rate of 0.1 is too large.
    without = {**plain, "network": "simple-plain", "lr": 0.03}
    drop = {"drop_prob": 0.1}
    pair: Mapping[str, Mapping[str, float]] = {"baseline": {}, "drop-activation": drop}

    def joined(*others: str) -> Mapping[str, Mapping[str, float]]:
        name = "+".join(others)
        return {name: {}, f"{name}+drop-activation": drop}

    return Recipe(
        name="harmony",
        title="Beside other regularisers: test error (%) of the simple network on 5,000 images of CIFAR-10",
        source=SOURCE,
        rows=(
            Row("none", "no augmentation", bare, pair),
            Row("crop+flip", "crop and flip", plain, {**pair, **joined("cutout"), **joined("autoaugment")}),
            Row("both", "crop, flip, Cutout and AutoAugment", plain, joined("cutout", "autoaugment")),
            Row("no-batchnorm", "without BatchNorm", without, pair),
        ),
        seeds=STUDY_SEEDS,
        notes=(
            "The question: is Drop-Activation together with another regulariser better than that regulariser alone, "
            "and than Drop-Activation alone?",
        ),
    )
