"""From the official files to `NAME.npz`: small files in the official formats, downloaded from this machine and read by
torchvision's own classes.
"""

import gzip
import hashlib
import http.server
import pickle
import struct
import tarfile
import threading
import zipfile

import numpy as np
import pytest
import scipy.io
import torch
from makers import Payload
from torchvision import datasets

from dropact.experiments import load_dataset
from dropact.experiments.data import archive as archive_module
from dropact.experiments.data.archive import Archive
from dropact.experiments.errors import DataError


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def images_and_labels(seed, count, shape, first, classes):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, *shape), dtype=np.uint8), first + np.arange(count) % classes


def idx(array):
    """The format of MNIST: two zero bytes, 8 for uint8, the number of dimensions, the dimensions, the numbers."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def expect(data, x_train, y_train, x_test, y_test):
    """`data` holds these images: the test part in order, the others as one set."""
    assert np.array_equal(data.x_test.numpy(), x_test)
    assert np.array_equal(data.y_test.numpy(), y_test)
    images = torch.cat([data.x_train, data.x_validation]).numpy()
    labels = torch.cat([data.y_train, data.y_validation]).numpy()
    got = sorted(image.tobytes() + bytes([label]) for image, label in zip(images, labels, strict=True))
    assert got == sorted(image.tobytes() + bytes([label]) for image, label in zip(x_train, y_train, strict=True))


@pytest.fixture
def url(tmp_path, monkeypatch):
    """Where `tmp_path` is to be had by HTTP."""
    monkeypatch.setenv("no_proxy", "*")

    class Silent(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=tmp_path)

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Silent) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def small(monkeypatch):
    """Sets the sizes that a data set's archive must have."""

    def change(name, train, test):
        whole = archive_module.ARCHIVES[name]
        made = Archive(name, whole.image_shape, whole.num_classes, train, test)
        monkeypatch.setitem(archive_module.ARCHIVES, name, made)

    return change


@pytest.fixture
def svhn(tmp_path, monkeypatch, small, url):
    """.mat files as published: X (32, 32, 3, N), y (N, 1) with 10 for the digit 0."""
    source = tmp_path / "source"
    source.mkdir()
    made, listed = {}, {}
    for seed, (split, count) in enumerate({"train": 40, "extra": 25, "test": 12}.items()):
        images, labels = images_and_labels(seed, count, (32, 32, 3), 1, 10)
        path = source / f"{split}_32x32.mat"
        scipy.io.savemat(
            path,
            {"X": images.transpose(1, 2, 3, 0), "y": labels.astype(np.uint8)[:, None]},
            do_compression=True,
        )
        listed[split] = [f"{url}/source/{path.name}", path.name, md5(path)]
        made[split] = (images, labels % 10)
    monkeypatch.setattr(datasets.SVHN, "split_list", listed)
    small("svhn", 65, 12)
    return source, made


def test_svhn_is_train_and_extra_with_zero_for_the_digit_zero(tmp_path, svhn):
    _, made = svhn
    data = load_dataset("svhn", tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["svhn.npz"]
    x_train, y_train = (np.concatenate([made["train"][i], made["extra"][i]]) for i in (0, 1))
    expect(data, x_train, y_train, *made["test"])
    with np.load(tmp_path / "cache" / "svhn.npz") as file:  # official order, train before extra
        assert np.array_equal(file["x_train"], x_train)
        assert np.array_equal(file["y_train"], y_train)


def test_official_files_beside_the_archive_are_used(tmp_path, svhn, monkeypatch):
    source, made = svhn
    monkeypatch.setattr(datasets.SVHN, "download", lambda self: pytest.fail("downloads"))
    data = load_dataset("svhn", source)
    assert np.array_equal(data.x_test.numpy(), made["test"][0])


def test_an_official_file_that_is_not_what_was_published_is_not_used(tmp_path, svhn, monkeypatch):
    source, _ = svhn
    listed = {split: [link, name, "0" * 32] for split, (link, name, _) in datasets.SVHN.split_list.items()}
    monkeypatch.setattr(datasets.SVHN, "split_list", listed)
    with pytest.raises(DataError, match=r"svhn.*corrupted"):
        load_dataset("svhn", source)
    assert not (source / "svhn.npz").exists()
    assert not list(source.glob(".svhn-*"))


def test_official_files_of_the_wrong_size_are_refused_before_anything_is_kept(tmp_path, svhn, small):
    small("svhn", 66, 12)
    with pytest.raises(DataError, match=r"svhn: the official files: got x_train \(65, 32, 32, 3\)"):
        load_dataset("svhn", tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.fixture
def emnist(tmp_path, monkeypatch, small, url):
    """gzip.zip as published: a folder of gzipped idx files, every image transposed, letters numbered from 1."""
    path = tmp_path / "gzip.zip"
    made = {}
    with zipfile.ZipFile(path, "w") as file:
        for split, classes, first in (("balanced", 47, 0), ("letters", 26, 1)):
            for part, count in (("train", 60), ("test", 30)):
                images, labels = images_and_labels(count, count, (28, 28), first, classes)
                made[split, part] = (images, labels - first)
                for kind, array in (("images-idx3", images.swapaxes(1, 2)), ("labels-idx1", labels)):
                    file.writestr(f"gzip/emnist-{split}-{part}-{kind}-ubyte.gz", gzip.compress(idx(array)))
            small(f"emnist-{split}", 60, 30)
    monkeypatch.setattr(datasets.EMNIST, "url", f"{url}/{path.name}")
    monkeypatch.setattr(datasets.EMNIST, "md5", md5(path))
    return made


@pytest.mark.parametrize("split", ["balanced", "letters"])
def test_emnist_images_stand_upright_and_labels_begin_at_zero(tmp_path, emnist, split):
    data = load_dataset(f"emnist-{split}", tmp_path / "cache")
    expect(data, *emnist[split, "train"], *emnist[split, "test"])
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [f"emnist-{split}.npz"]


def test_every_split_of_emnist_has_an_archive():
    names = {name for name in archive_module.ARCHIVES if name.startswith("emnist-")}
    assert names == {f"emnist-{split}" for split in datasets.EMNIST.splits}
    for split in datasets.EMNIST.splits:
        classes = len(datasets.EMNIST.classes_split_dict[split]) - (split == "letters")  # its first is "N/A"
        assert archive_module.ARCHIVES[f"emnist-{split}"].num_classes == classes


@pytest.mark.parametrize(("name", "maker"), [("mnist", datasets.MNIST), ("fashion-mnist", datasets.FashionMNIST)])
def test_mnist_and_fashion_mnist_come_from_idx_files(tmp_path, monkeypatch, small, url, name, maker):
    source = tmp_path / "source"
    source.mkdir()
    made, resources = [], []
    for part, count in (("train", 60), ("t10k", 30)):
        arrays = images_and_labels(count, count, (28, 28), 0, 10)
        made += arrays
        for kind, array in zip(("images-idx3", "labels-idx1"), arrays, strict=True):
            path = source / f"{part}-{kind}-ubyte.gz"
            path.write_bytes(gzip.compress(idx(array)))
            resources.append((path.name, md5(path)))
    monkeypatch.setattr(maker, "mirrors", [f"{url}/source/"])
    monkeypatch.setattr(maker, "resources", resources)
    small(name, 60, 30)
    expect(load_dataset(name, tmp_path / "cache"), *made)


@pytest.fixture
def cifar100(tmp_path, monkeypatch, small, url):
    """cifar-100-python.tar.gz as published: pickled dictionaries of rows of 3 · 32 · 32 bytes."""
    folder = tmp_path / "source" / "cifar-100-python"
    folder.mkdir(parents=True)
    made, sums = [], {}
    for part, count in (("train", 60), ("test", 30)):
        images, labels = images_and_labels(count, count, (32, 32, 3), 0, 100)
        made += [images, labels]
        rows = images.transpose(0, 3, 1, 2).reshape(count, -1)
        (folder / part).write_bytes(pickle.dumps({"data": rows, "fine_labels": labels.tolist()}))
        sums[part] = md5(folder / part)
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": [str(i) for i in range(100)]}))
    tar = tmp_path / "cifar-100-python.tar.gz"
    with tarfile.open(tar, "w:gz") as file:
        file.add(folder, folder.name)
    monkeypatch.setattr(datasets.CIFAR100, "url", f"{url}/{tar.name}")
    monkeypatch.setattr(datasets.CIFAR100, "tgz_md5", md5(tar))
    monkeypatch.setattr(datasets.CIFAR100, "train_list", [["train", sums["train"]]])
    monkeypatch.setattr(datasets.CIFAR100, "test_list", [["test", sums["test"]]])
    meta = {"filename": "meta", "key": "fine_label_names", "md5": md5(folder / "meta")}
    monkeypatch.setattr(datasets.CIFAR100, "meta", meta)
    small("cifar100", 60, 30)
    return folder.parent, made


def test_cifar_comes_from_the_published_pickles(tmp_path, cifar100):
    expect(load_dataset("cifar100", tmp_path / "cache"), *cifar100[1])


def test_a_pickle_in_place_of_cifars_is_not_executed(tmp_path, cifar100, monkeypatch, url):
    """torchvision compares checksums before it unpickles."""
    folder, mark = cifar100[0], tmp_path / "unpickled"
    (folder / "cifar-100-python" / "train").write_bytes(pickle.dumps(Payload(mark)))
    monkeypatch.setattr(datasets.CIFAR100, "url", f"{url}/gone")
    with pytest.raises(DataError, match=r"cifar100.*--data"):
        load_dataset("cifar100", folder)
    assert not mark.exists()


@pytest.fixture
def no_network(monkeypatch):
    def download(self):
        raise RuntimeError("Error downloading\ntrain-images-idx3-ubyte.gz")

    monkeypatch.setattr(datasets.MNIST, "download", download)


@pytest.mark.usefixtures("no_network")
def test_a_pickle_in_place_of_mnists_old_cache_is_not_executed(tmp_path):
    mark = tmp_path / "unpickled"
    folder = tmp_path / "MNIST" / "processed"
    folder.mkdir(parents=True)
    for name in ("training.pt", "test.pt"):
        torch.save(Payload(mark), folder / name)
    with pytest.raises(DataError, match=r"mnist.*Error downloading"):
        load_dataset("mnist", tmp_path)
    assert not mark.exists()


@pytest.mark.usefixtures("no_network")
def test_a_truncated_official_file_is_not_used(tmp_path):
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for part in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            (folder / f"{part}-{kind}-ubyte").write_bytes(idx(np.zeros((3, 28, 28)))[:100])
    with pytest.raises(DataError, match=r"mnist.*Error downloading") as caught:
        load_dataset("mnist", tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "mnist.npz").exists()
