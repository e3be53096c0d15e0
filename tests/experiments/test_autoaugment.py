import signal

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from dropact.experiments.augmentation import POLICIES, Augmentation, Workers


def random_images(shape):
    # Smooth images: on noise Equalize and AutoContrast would do nothing.
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(shape[0], shape[1], 5, 5, generator=generator) * 180 + 20
    return torch.nn.functional.interpolate(coarse, shape[2:], mode="bilinear").to(torch.uint8)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("channels", [1, 3])
def test_each_image_is_torchvisions_with_its_own_seed(policy, channels):
    images = random_images((60, channels, 32, 32))
    seeds = torch.randint(2**62, (60,), generator=torch.Generator().manual_seed(0))
    transform = v2.AutoAugment(v2.AutoAugmentPolicy(policy))
    expected = []
    for image, seed in zip(images, seeds.tolist(), strict=True):
        torch.manual_seed(seed)
        expected.append(np.asarray(transform(v2.functional.to_pil_image(image))))
    expected = torch.from_numpy(np.stack(expected)).view(60, 32, 32, channels).movedim(3, 1)
    augmented = Workers(0).augment(images, policy, seeds)
    assert torch.equal(augmented, expected)
    assert sum(not torch.equal(a, b) for a, b in zip(augmented, images, strict=True)) > 30


def test_the_sub_policy_is_drawn_per_image():
    """One image 64 times: 25 sub-policies, each applied or not, give many outcomes; one per batch gives few."""
    image = random_images((1, 3, 32, 32)).expand(64, 3, 32, 32)
    seeds = torch.arange(64)
    assert len(Workers(0).augment(image, "cifar10", seeds).flatten(1).unique(dim=0)) > 20


def test_the_number_of_workers_changes_nothing():
    images = random_images((7, 3, 32, 32))
    augment = Augmentation(4, True, 8, "cifar10")
    results = []
    for count in (0, 1, 2):
        with Workers(count) as workers:
            results += [augment(images, torch.Tensor.float, torch.Generator().manual_seed(2), workers)]
            assert torch.equal(
                workers.augment(images[:1], "svhn", torch.tensor([5])),
                Workers(0).augment(images[:1], "svhn", torch.tensor([5])),
            )  # fewer images than workers
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_the_policy_stands_between_flip_and_normalisation():
    images = random_images((16, 3, 32, 32)).contiguous(memory_format=torch.channels_last)
    seen = {}

    def normalise(name):
        def keep(images):
            seen[name] = images
            return images.float()

        return keep

    for name, policy in (("plain", None), ("augmented", "svhn")):
        Augmentation(4, True, 0, policy)(images, normalise(name), torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(1)
    for bound, shape in ((9, (16, 2)), (2, (16,)), (32, (16,)), (32, (16,))):
        torch.randint(bound, shape, generator=generator)
    seeds = torch.randint(2**63 - 1, (16,), generator=generator)
    assert torch.equal(seen["augmented"], Workers(0).augment(seen["plain"], "svhn", seeds))
    assert seen["augmented"].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda x, s: Workers(-1), "workers: got -1"),
        (lambda x, s: Workers(0).augment(x, "cifar100", s), "policy: got 'cifar100'"),
        (lambda x, s: Workers(0).augment(x.float(), "cifar10", s), "float32"),
        (lambda x, s: Workers(0).augment(x[:, :2], "cifar10", s), r"\(2, 2, 8, 8\)"),
        (lambda x, s: Workers(0).augment(x[0], "cifar10", s), r"\(3, 8, 8\)"),
    ],
)
def test_what_it_cannot_do_is_refused(call, word):
    with pytest.raises(ValueError, match=word):
        call(random_images((2, 3, 8, 8)), torch.zeros(2, dtype=torch.int64))


def test_a_grey_image_goes_in_and_comes_out_as_pil_has_it():
    image = random_images((1, 1, 8, 8))
    assert Image.fromarray(image[0, 0].numpy()).mode == "L"
    assert Workers(0).augment(image, "cifar10", torch.tensor([0])).shape == (1, 1, 8, 8)


def test_ctrl_c_is_left_to_the_process_that_trains():
    with Workers(1) as workers:
        assert workers._pool.submit(signal.getsignal, signal.SIGINT).result() == signal.SIG_IGN
