import hashlib
import io
import pickle
import zipfile

import numpy as np
import pytest
import torch
import torchvision
from makers import Payload

from dropact.experiments import load_dataset
from dropact.experiments.data import archive as archive_module
from dropact.experiments.data import registry
from dropact.experiments.data.archive import Archive, read_archive
from dropact.experiments.data.dataset import stratified_order
from dropact.experiments.data.registry import data_folder
from dropact.experiments.errors import ConfigError, DataError

TOY = Archive("toy", (8, 8, 3), 4, train=40, test=12)


def toy_arrays():
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(0, 256, (40, 8, 8, 3), dtype=np.uint8),
        "y_train": (np.arange(40) % 4).astype(np.uint8),
        "x_test": rng.integers(0, 256, (12, 8, 8, 3), dtype=np.uint8),
        "y_test": (np.arange(12) % 4).astype(np.uint8),
    }


def rows(images, labels):
    return sorted(
        image.tobytes() + bytes([label]) for image, label in zip(images.numpy(), labels.tolist(), strict=True)
    )


def test_digits_split_is_a_partition_of_all_images():
    from sklearn import datasets

    data = load_dataset("digits")
    assert (len(data.y_train), len(data.y_validation), len(data.y_test)) == (300, 300, 1197)
    bunch = datasets.load_digits()
    everything = rows(torch.from_numpy(bunch.images).to(torch.uint8), torch.from_numpy(bunch.target))
    parts = [("train", data.x_train, data.y_train), ("v", data.x_validation, data.y_validation)]
    parts.append(("test", data.x_test, data.y_test))
    assert sorted(row for _, images, labels in parts for row in rows(images, labels)) == everything


def test_digits_split_is_stratified_and_never_changes():
    data = load_dataset("digits")
    whole = torch.cat([data.y_train, data.y_validation, data.y_test]).bincount(minlength=10)
    for labels in (data.y_train, data.y_validation, data.y_test):
        expected = whole * len(labels) / 1797
        assert (labels.bincount(minlength=10) - expected).abs().max() <= 2
    assert data.sha256 == "e9a723dbc93d370ae8085257e548f4e9d7e954540bda0e111a7a87eb76844fdc"


def test_checksum_is_the_documented_digest_and_sees_the_order():
    data = load_dataset("digits")
    digest = hashlib.sha256()
    for name in ("x_train", "y_train", "x_validation", "y_validation", "x_test", "y_test"):
        part = getattr(data, name)
        digest.update(str(tuple(part.shape)).encode() + part.numpy().tobytes())
    assert data.sha256 == digest.hexdigest()


def test_archive_keeps_the_official_test_part_and_holds_out_a_stratified_tenth(tmp_path):
    arrays = toy_arrays()
    np.savez(tmp_path / "toy.npz", **arrays)
    data = read_archive(TOY, tmp_path / "toy.npz")
    assert np.array_equal(data.x_test.numpy(), arrays["x_test"])
    assert np.array_equal(data.y_test.numpy(), arrays["y_test"])
    assert data.y_validation.bincount().tolist() == [1, 1, 1, 1]
    together = rows(torch.cat([data.x_train, data.x_validation]), torch.cat([data.y_train, data.y_validation]))
    assert together == rows(torch.from_numpy(arrays["x_train"]), torch.from_numpy(arrays["y_train"]))
    assert (data.in_channels, data.image_size) == (3, 8)


def change(**replaced):
    return lambda arrays: {**arrays, **replaced}


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        (lambda arrays: {name: value for name, value in arrays.items() if name != "y_test"}, "y_test"),
        (change(x_train=np.zeros((40, 8, 8, 3), dtype=np.float32)), "float32"),
        (change(x_train=np.zeros((39, 8, 8, 3), dtype=np.uint8)), "39"),
        (change(x_test=np.zeros((12, 3, 8, 8), dtype=np.uint8)), r"\(12, 3, 8, 8\)"),
        (change(y_test=np.full(12, 4, dtype=np.uint8)), "label 4"),
        (change(y_train=np.array([[1]] * 40, dtype=object)), "y_train is object"),
        (change(x_train=np.asfortranarray(toy_arrays()["x_train"])), "Fortran"),
    ],
)
def test_archives_that_are_not_what_they_should_be_are_refused(tmp_path, changed, word):
    np.savez(tmp_path / "toy.npz", **changed(toy_arrays()))
    with pytest.raises(DataError, match=word) as caught:
        read_archive(TOY, tmp_path / "toy.npz")
    assert "toy.npz" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("longer", ["x_train", "y_train", "x_test", "y_test"])
def test_an_array_longer_than_its_header_is_refused(tmp_path, longer):
    with zipfile.ZipFile(tmp_path / "toy.npz", "w") as file:
        for key, array in toy_arrays().items():
            npy = io.BytesIO()
            np.save(npy, array)
            file.writestr(f"{key}.npy", npy.getvalue() + b"more" * (key == longer))
    with pytest.raises(DataError, match=f"{longer} is longer"):
        read_archive(TOY, tmp_path / "toy.npz")


@pytest.mark.parametrize(
    "damage",
    [
        lambda b: b[: len(b) // 2],
        lambda b: b"",
        lambda b: b[:200] + b"\0" * 99 + b[299:],
        lambda b: b[:3000] + bytes([b[3000] ^ 1]) + b[3001:],  # one bit of one pixel
    ],
)
def test_damaged_archives_are_refused(tmp_path, damage):
    path = tmp_path / "toy.npz"
    np.savez(path, **toy_arrays())
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=r"toy\.npz: damaged"):
        read_archive(TOY, path)


@pytest.fixture
def payload(tmp_path):
    mark = tmp_path / "unpickled"
    pickle.loads(pickle.dumps(Payload(mark)))
    assert mark.exists()  # it works
    mark.unlink()
    yield Payload(mark)
    assert not mark.exists()


@pytest.mark.parametrize("key", ["x_train", "y_train", "x_test", "y_test", "note", "approx_train_idx", "unknown"])
def test_a_pickled_payload_in_an_archive_is_not_executed(tmp_path, payload, key):
    array = np.empty(40 if "train" in key else 12, dtype=object)
    array[:] = payload
    np.savez(tmp_path / "toy.npz", **toy_arrays() | {key: array})
    if key == "unknown":
        read_archive(TOY, tmp_path / "toy.npz")
    else:
        with pytest.raises(DataError, match=key if key[1] == "_" else "Object arrays"):
            read_archive(TOY, tmp_path / "toy.npz")


def test_a_bare_pickle_in_place_of_an_archive_is_not_executed(tmp_path, payload):
    (tmp_path / "toy.npz").write_bytes(pickle.dumps(payload))
    with pytest.raises(DataError, match="damaged"):
        read_archive(TOY, tmp_path / "toy.npz")


def test_other_arrays_are_passed_over_and_inexact_images_are_noted(tmp_path):
    arrays = toy_arrays()
    np.savez(tmp_path / "plain.npz", **arrays, label_names=np.array(["a", "b", "c", "d"]))
    np.savez(tmp_path / "inexact.npz", **arrays, approx_train_idx=np.arange(3), approx_test_idx=np.arange(2))
    np.savez(tmp_path / "told.npz", **arrays, note=np.array("a toy"), approx_test_idx=np.arange(1))
    plain, inexact, told = (read_archive(TOY, tmp_path / f"{name}.npz") for name in ("plain", "inexact", "told"))
    assert plain.note == ""
    assert inexact.note == "3 train and 2 test images are JPEG approximations"
    assert told.note == "a toy; 1 test images are JPEG approximations"
    assert plain.sha256 == inexact.sha256 == told.sha256


def test_compressed_archives_are_read_too(tmp_path):
    np.savez(tmp_path / "plain.npz", **toy_arrays())
    np.savez_compressed(tmp_path / "small.npz", **toy_arrays())
    assert read_archive(TOY, tmp_path / "small.npz").sha256 == read_archive(TOY, tmp_path / "plain.npz").sha256


def test_reading_piece_by_piece_gives_the_whole(tmp_path, monkeypatch):
    """Pieces of one image, of seven, of all: rows land where the split wants them."""
    np.savez(tmp_path / "toy.npz", **toy_arrays())
    order = stratified_order(torch.from_numpy(toy_arrays()["y_train"]), archive_module.SPLIT_SEED)
    for piece in (1, 7 * 192, 1 << 22):
        monkeypatch.setattr(archive_module, "_PIECE", piece)
        data = read_archive(TOY, tmp_path / "toy.npz")
        together = torch.cat([data.x_validation, data.x_train])
        assert torch.equal(together, torch.from_numpy(toy_arrays()["x_train"])[order])
        assert np.array_equal(data.x_test.numpy(), toy_arrays()["x_test"])


def test_another_edition_of_the_same_set_is_accepted(tmp_path):
    np.savez(tmp_path / "toy.npz", **toy_arrays())
    editions = Archive("toy", (8, 8, 3), 4, train=50, test=12, other_sizes=((40, 12),))
    assert len(read_archive(editions, tmp_path / "toy.npz").y_train) == 36


class FakeSet:
    """Stands for torchvision's class: the same attributes, no network."""

    def __init__(self, root, train, download):
        if not download:
            raise RuntimeError("Dataset not found or corrupted.")
        arrays = toy_arrays()
        part = "train" if train else "test"
        self.data, self.targets = arrays[f"x_{part}"], arrays[f"y_{part}"].tolist()


class NoNetwork:
    def __init__(self, root, train, download):
        raise RuntimeError("File not found\nor corrupted.")


@pytest.fixture
def toy_as_cifar10(monkeypatch):
    toy = Archive("cifar10", (8, 8, 3), 4, train=40, test=12)
    monkeypatch.setitem(archive_module.ARCHIVES, "cifar10", toy)
    assert registry.ARCHIVES["cifar10"] is toy


@pytest.mark.usefixtures("toy_as_cifar10")
def test_a_missing_file_is_made_from_torchvision_and_then_used(tmp_path, monkeypatch):
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", FakeSet)
    first = load_dataset("cifar10", tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["cifar10.npz"]
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", NoNetwork)
    assert load_dataset("cifar10", tmp_path / "cache").sha256 == first.sha256


@pytest.mark.usefixtures("toy_as_cifar10")
def test_a_failed_download_leaves_nothing_and_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", NoNetwork)
    with pytest.raises(DataError, match=r"cifar10.*corrupted.*--data") as caught:
        load_dataset("cifar10", tmp_path)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_unknown_names_and_files_for_folders_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"cifar11.*digits.*fashion-mnist"):
        load_dataset("cifar11")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="a file"):
        load_dataset("cifar10", tmp_path / "file")


def test_folder_is_the_argument_then_the_environment_then_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DROPACT_DATA", "/from/environment")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert str(data_folder(tmp_path)) == str(tmp_path)
    assert str(data_folder()) == "/from/environment"
    monkeypatch.delenv("DROPACT_DATA")
    assert str(data_folder()) == "/cache/dropact"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert data_folder().parts[-2:] == (".cache", "dropact")
