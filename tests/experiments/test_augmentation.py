import numpy as np
import pytest
import torch
from torchvision.transforms import functional as TF

from dropact.experiments.augmentation import AUGMENTATIONS, Augmentation, crop, cutout, flip
from dropact.experiments.errors import ConfigError

FORMATS = (torch.contiguous_format, torch.channels_last)
SHAPES = ((64, 3, 32, 32), (33, 1, 28, 28), (20, 3, 9, 14))


def random_images(shape, memory_format=torch.contiguous_format):
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8).contiguous(memory_format=memory_format)


def normalise(images):
    return (images.float() - 120) / 60


def published_cutout(image, row, column, length):
    """uoguelph-mlrg/Cutout: the mask of `Cutout.__call__` with one hole, line by line."""
    height, width = image.shape[1:]
    mask = np.ones((height, width), np.float32)
    top, bottom = np.clip(row - length // 2, 0, height), np.clip(row + length // 2, 0, height)
    left, right = np.clip(column - length // 2, 0, width), np.clip(column + length // 2, 0, width)
    mask[top:bottom, left:right] = 0.0
    return image * torch.from_numpy(mask)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("padding", [1, 4])
def test_crop_is_torchvisions_pad_and_crop_of_each_image(shape, memory_format, padding):
    images = random_images(shape, memory_format)
    offsets = torch.randint(0, 2 * padding + 1, (shape[0], 2), generator=torch.Generator().manual_seed(1))
    expected = [
        TF.crop(TF.pad(image, padding), int(top), int(left), *shape[2:])
        for image, (top, left) in zip(images, offsets, strict=True)
    ]
    cropped = crop(images, offsets, padding)
    assert torch.equal(cropped, torch.stack(expected))
    assert cropped.is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_flip_is_torchvisions_of_each_flagged_image(shape, memory_format):
    images = random_images(shape, memory_format)
    flags = torch.randint(2, (shape[0],), generator=torch.Generator().manual_seed(1)).bool()
    expected = [TF.hflip(image) if flag else image for image, flag in zip(images, flags, strict=True)]
    flipped = flip(images, flags)
    assert torch.equal(flipped, torch.stack(expected))
    assert flipped.is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [0, 2, 8, 40])
def test_cutout_is_the_published_loop(shape, memory_format, size):
    images = normalise(random_images(shape, memory_format))
    before = images.clone()
    rows, columns = (torch.arange(shape[0]) * step % length for step, length in ((5, shape[2]), (7, shape[3])))
    expected = [
        published_cutout(image, int(r), int(c), size) for image, r, c in zip(images, rows, columns, strict=True)
    ]
    cut = cutout(images, torch.stack([rows, columns], dim=1), size)
    assert torch.equal(cut, torch.stack(expected))
    assert cut.is_contiguous(memory_format=memory_format)
    assert torch.equal(images, before)


def test_cutout_fills_with_what_it_is_told_in_any_dtype():
    images = random_images((2, 3, 8, 8))
    cut = cutout(images, torch.tensor([[0, 0], [4, 4]]), 4, fill=9)
    assert cut.dtype == torch.uint8
    assert torch.equal(cut[0, :, :2, :2], torch.full((3, 2, 2), 9, dtype=torch.uint8))
    assert torch.equal(cut[0, :, 2:], images[0, :, 2:])
    assert torch.equal(cut[1, :, 2:6, 2:6], torch.full((3, 4, 4), 9, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda x: crop(x[0], torch.zeros(2, 2).long()), r"images.*\(3, 8, 8\)"),
        (lambda x: crop(x, torch.zeros(1, 2).long()), r"offsets.*\(1, 2\).*\(2, 2\)"),
        (lambda x: flip(x, torch.zeros(2, 1).bool()), r"flags.*\(2, 1\)"),
        (lambda x: cutout(x, torch.zeros(2).long(), 4), r"centres.*\(2,\)"),
        (lambda x: cutout(x, torch.zeros(2, 2).long(), 5), "size: got 5"),
        (lambda x: cutout(x, torch.zeros(2, 2).long(), -2), "size: got -2"),
    ],
)
def test_wrong_shapes_and_sizes_are_refused(call, word):
    with pytest.raises(ValueError, match=word):
        call(random_images((2, 3, 8, 8)))


class Recorder:
    """Normalises, and keeps what it was given."""

    def __call__(self, images):
        self.seen = images.clone()
        return normalise(images)


@pytest.mark.parametrize("memory_format", FORMATS)
def test_order_is_crop_flip_normalise_cutout(memory_format):
    """The image's own padding of 0 becomes -2 in normalised space, the hole is 0."""
    images = random_images((256, 3, 32, 32), memory_format)
    record = Recorder()
    result = Augmentation(4, True, 8)(images, record, torch.Generator().manual_seed(5))
    plain = Augmentation(4, True)(images, normalise, torch.Generator().manual_seed(5))
    assert result.is_contiguous(memory_format=memory_format)
    assert torch.equal(plain, normalise(record.seen))
    hole = result != plain
    assert (result[hole] == 0).all()
    side = [[int(hole[i].any(0).any(axis).sum()) for axis in (0, 1)] for i in range(256)]
    assert max(map(max, side)) == 8
    assert min(map(min, side)) >= 4  # half of a hole centred on the border
    positions = {
        tuple(int(v) for v in (top, left, flag))
        for image, seen in zip(images[:40], record.seen[:40], strict=True)
        for top in range(9)
        for left in range(9)
        for flag in (0, 1)
        if torch.equal(crop((TF.hflip(image) if flag else image)[None], torch.tensor([[top, left]]))[0], seen)
    }
    assert len(positions) > 20  # crops and flips are per image


def test_without_augmentation_the_images_are_only_normalised():
    images = random_images((4, 3, 8, 8))
    assert torch.equal(AUGMENTATIONS["none"](images, normalise, torch.Generator()), normalise(images))


def test_offsets_flips_and_centres_are_uniform():
    """χ² at a false-alarm rate of 10⁻⁵ each, from 40,000 images that show where they were cut."""
    from scipy import stats

    count = 40_000
    image = torch.arange(1, 17, dtype=torch.uint8).view(1, 1, 4, 4).expand(count, 1, 4, 4)
    augmented = Augmentation(1, True, 2)(image, lambda x: x.float() + 1, torch.Generator().manual_seed(0))
    hole = (augmented == 0).flatten(1)
    shifted = Augmentation(1, True)(image, lambda x: x.float() + 1, torch.Generator().manual_seed(0))
    for patterns, kinds in ((hole, 16), (shifted.flatten(1), 18)):
        counts = patterns.unique(dim=0, return_counts=True)[1]
        assert len(counts) == kinds
        assert stats.chisquare(counts.numpy()).pvalue > 1e-5


def test_equal_generators_give_equal_batches_and_a_generator_moves_on():
    images = random_images((8, 3, 32, 32))
    augment = AUGMENTATIONS["crop+flip"]
    one, two = (torch.Generator().manual_seed(7) for _ in range(2))
    first = augment(images, normalise, one)
    assert torch.equal(first, augment(images, normalise, two))
    assert not torch.equal(first, augment(images, normalise, one))


def test_torchs_default_generator_is_left_alone():
    before = torch.get_rng_state()
    Augmentation(4, True, 8, "cifar10")(random_images((2, 3, 32, 32)), normalise, torch.Generator())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"crop_padding": -1}, "crop_padding: got -1"),
        ({"crop_padding": 1.5}, "crop_padding: got 1.5"),
        ({"crop_padding": True}, "crop_padding: got True"),
        ({"flip": 1}, "flip: got 1"),
        ({"cutout": 7}, "cutout: got 7"),
        ({"cutout": "8"}, "cutout: got '8'"),
        ({"autoaugment": "cifar100"}, "autoaugment: got 'cifar100'.*svhn"),
    ],
)
def test_impossible_augmentations_are_refused(fields, word):
    with pytest.raises(ConfigError, match=word):
        Augmentation(**fields)
