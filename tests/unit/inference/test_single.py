"""A trained model by itself: images of any kind and size give the logits that mode predict writes."""

import io
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from foldwise.artifacts import read_csv, read_npz, write_json
from foldwise.config.callbacks import TestTimeAugmentation as Variations
from foldwise.config.definition import Description, TaskRecord
from foldwise.config.jobs import PredictConfig
from foldwise.config.preprocessing import Preprocessing, TensorRecord
from foldwise.data.files import DataFiles
from foldwise.data.preprocess import TensorFiles, preprocess_dataset
from foldwise.errors import DataError, DataProblems, MissingData
from foldwise.inference.predict import NO_VARIATIONS, load_network, predict, predict_fold
from foldwise.inference.single import load_model
from foldwise.tasks.task import TaskFiles, create_task
from unit.conftest import write_dataset
from unit.training.toys import KINDS, train_toy

SHORT = {"trainer": {"max_epochs": 1, "limit_train_batches": 2, "limit_val_batches": 1}}
STEPS = [{"name": "resize_longer"}, {"name": "pad", "fill": 9}, {"name": "autocontrast"}]
TTA = Variations(variations=["identity", "hflip", "crop_center"], mode="max")
ROTATED = 6  # EXIF orientation


@pytest.fixture(scope="module")
def trained(train, tmp_path_factory):
    """A model of the digits."""
    return train(tmp_path_factory.mktemp("model"), preprocessing={"size": 8}, **SHORT)


@pytest.fixture(scope="module")
def model(trained):
    return load_model(trained.folder)


def paths_of(dataset, ids):
    """Return the image files of samples that are named as their images."""
    table = read_csv(dataset.images, ("image", "path"))
    paths = dict(zip(table["image"], table["path"], strict=True))
    return [dataset.description.parent / paths[name] for name in ids]


def predict_data(data, made, path, tta=NO_VARIATIONS):
    config = PredictConfig(task=data.task_record, tensors=data.tensor_record, tta=tta)
    predict_fold(config, made.files.record, made.files.weights, data.task, data.tensors, path)
    return read_npz(path)


@pytest.mark.parametrize("tta", [NO_VARIATIONS, TTA], ids=["plain", "variations"])
def test_files_of_grey_digits_give_the_logits_on_disk(digits, trained, tmp_path, tta):
    arrays, model = predict_data(digits, trained, tmp_path / "logits.npz", tta), load_model(trained.folder, tta)
    assert model.batch_size == 64
    for split in ("val", "test", "unlabeled"):
        found = model.predict(paths_of(digits.dataset, arrays[f"{split}_ids"]))
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, arrays[f"{split}_logits"])


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A task of colour photos of many sizes, one turned, one transparent, JPEGs among them."""
    root, generator = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    images, labels = {}, {}
    for place in range(24):
        width, height = map(int, generator.integers(12, 90, 2))
        pixels = np.kron(generator.integers(0, 256, (height, width, 3)), np.ones((2, 2, 1))).astype(np.uint8)
        images[f"p{place:02d}"] = Image.fromarray(pixels)
        labels[f"p{place:02d}"] = "cat" if place % 2 else "dog"
    for name in ("p03", "p04", "p05"):
        exif, content = Image.Exif(), io.BytesIO()
        exif[0x0112] = ROTATED if name == "p03" else 1
        images[name].save(content, "JPEG", exif=exif)
        images[name] = content.getvalue()
    images["p06"].putalpha(128)
    write_dataset(root / "datasets/photos", images, labels)
    return root


def make_photos(root, recipe, place):
    """Make task and tensors of the photos."""
    from foldwise.config.definition import DatasetRecord
    from foldwise.tasks.descriptions import DatasetFiles

    dataset, record = DatasetFiles.of(root / "datasets/photos"), DatasetRecord(dataset="photos")
    task, tensors = TaskFiles.of(place / "tasks/photos"), TensorFiles.of(place / "tensors/photos/p-00000000")
    made = SimpleNamespace(name="photos", dataset=dataset, task=task, tensors=tensors)
    made.task_record = TaskRecord(dataset="photos", type="classification", n_folds=2, test_fraction=0.5)
    made.tensor_record = TensorRecord(dataset="photos", preprocessing=Preprocessing(**recipe))
    made.files = DataFiles.of(task.description, tensors.images)
    create_task("photos", made.task_record, record, Description(), 1, dataset, task)
    preprocess_dataset(made.tensor_record, record, 1, dataset.description, dataset.images, tensors)
    return made


@pytest.mark.parametrize(
    "recipe",
    [
        {"size": 16},
        {"size": 24, "steps": STEPS},
        {"size": 16, "storage": "jpeg", "quality": 60, "reduced_decoding": False},
    ],
    ids=["cropped", "padded", "jpeg storage"],
)
def test_files_of_colour_photos_give_the_logits_on_disk(photos, train, tmp_path, recipe):
    data = make_photos(photos, recipe, tmp_path)
    settings = {"sampling": {"sample_num": 0, "batch_size": 5}, "preprocessing": recipe, **SHORT}
    made = train(tmp_path / "model", data=data, **settings)
    arrays, model = predict_data(data, made, tmp_path / "logits.npz"), load_model(made.folder)
    assert len(arrays["test_ids"]) >= 10
    for split in ("val", "test"):
        files = paths_of(data.dataset, arrays[f"{split}_ids"])
        np.testing.assert_array_equal(model.predict(files), arrays[f"{split}_logits"])
        np.testing.assert_allclose(
            np.concatenate([model.predict(file) for file in files]), arrays[f"{split}_logits"], atol=1e-5
        )


@pytest.mark.parametrize("kind", KINDS)
def test_each_task_type_gives_logits_in_the_form_of_files(make_pipeline, tmp_path, kind):
    task, store, record, files = train_toy(tmp_path, kind, make_pipeline, preprocessing={"size": 8}, **SHORT)
    places, model = task.split("test", 0), load_model(tmp_path)
    expected = predict(*load_network(record, files.weights), store, task, places, 16)
    images = store.images[store.rows_of(task, places)]
    found = model.predict(images)
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(found, expected)
    assert (model.task_type, model.classes) == (task.type, list(task.classes))
    if task.type == "regression":
        assert 900 < found.mean() < 1150
        with pytest.raises(DataError, match="got a model of task type regression, expected a task with classes"):
            model.probabilities(images)
        return
    shares = model.probabilities(images)
    assert ((shares >= 0) & (shares <= 1)).all()
    if task.type == "multilabel":
        np.testing.assert_allclose(shares, 1 / (1 + np.exp(-expected)), atol=1e-6)
    else:
        np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-6)


def test_pictures_and_arrays_are_taken_as_their_files(digits, model):
    paths = paths_of(digits.dataset, ["0000", "0007"])
    pictures = [Image.open(path) for path in paths]
    arrays = [np.asarray(picture) for picture in pictures]
    expected = model.predict(paths)
    wide = [np.uint16(256) * array for array in arrays]
    for images in ([str(path) for path in paths], pictures, arrays, wide, np.stack(arrays)[..., None]):
        np.testing.assert_array_equal(model.predict(images), expected)
    colours = np.stack([arrays[0]] * 3, axis=2)
    np.testing.assert_allclose(model.predict(colours), expected[:1], atol=1e-5)


def test_a_picture_is_turned_as_it_says_once(model, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = ROTATED
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    picture = Image.open(tmp_path / "a.png")
    upright = ImageOps.exif_transpose(picture)
    assert upright.size == (8, 12)
    for image in (tmp_path / "a.png", picture, picture, upright):
        np.testing.assert_array_equal(model.predict(image), model.predict(np.asarray(upright)))


def test_all_images_that_cannot_be_read_are_named(model, digits, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"nothing")
    good = paths_of(digits.dataset, ["0000"])[0]
    bad = [tmp_path / "no.png", tmp_path / "broken.png", np.zeros((4, 4)), np.zeros((4, 4, 2), np.uint8), 7]
    images = [good] * 70 + bad
    with pytest.raises(DataProblems) as caught:
        model.predict(images)
    assert [problem.where for problem in caught.value.problems] == [
        *map(str, bad[:2]), "image 72", "image 73", "image 74",
    ]  # fmt: skip
    assert "float64 and shape (4, 4), not uint8 of shape (height, width)" in caught.value.problems[2].reason
    assert "image 74: a value of type int" in caught.value.message
    with pytest.raises(DataError, match="images: got nothing"):
        model.predict([])


def test_it_is_a_module_that_normalises_by_itself(model, digits_store):
    pixels = torch.from_numpy(digits_store.images[:5]).permute(0, 3, 1, 2)
    images = pixels.float().requires_grad_()
    logits = model(images)
    assert not model.training
    logits.sum().backward()
    assert images.grad.abs().sum() > 0
    with torch.inference_mode():
        np.testing.assert_array_equal(model(pixels).numpy(), logits.detach().numpy())
    with pytest.raises(DataError, match=r"got shape \(5, 3, 9, 8\), expected shape \(n, 3, 8, 8\)"):
        model(torch.zeros(5, 3, 9, 8))


def test_weights_that_are_gone_and_devices_that_are_not_there_are_told(trained, tmp_path):
    shutil.copy(trained.files.record, tmp_path)
    with pytest.raises(MissingData, match="got nothing, as they were removed, expected the weights of a model"):
        load_model(tmp_path)
    with pytest.raises(DataError, match="device: got 'gpu', expected a device of this machine"):
        load_model(trained.folder, device="gpu")


def test_a_size_that_is_not_recorded_is_that_of_the_recipe(trained, tmp_path):
    shutil.copytree(trained.folder, tmp_path / "model")
    record = {**trained.record, "size": None}
    write_json(tmp_path / "model/model.json", record)
    assert load_model(tmp_path / "model").size == (8, 8)
    record["recipe"] = {**record["recipe"], "preprocessing": {"size": "auto"}}
    write_json(tmp_path / "model/model.json", record)
    with pytest.raises(DataError, match="a model without the size of its images"):
        load_model(tmp_path / "model")
