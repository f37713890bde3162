"""Real data for the engine's tests: the digits, made once, and small sets made to measure."""

import os
import shutil
import subprocess
from types import SimpleNamespace

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything numerical is imported

TINY_ARCH = {
    "name": "resnet10",
    "block_inplanes": [4, 4, 8, 8],
    "conv1_t_size": 3,
    "conv1_t_stride": 1,
    "no_max_pool": True,
}
TINY_RECIPE = {
    "arch": TINY_ARCH,
    "augmentations": {"operations": []},
    "preprocessing": {"size": 8},
    "sampling": {"sample_num": 256},
    "optimizer": {"name": "adamw", "lr": 0.01},
    "trainer": {"max_epochs": 2},
}


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if shutil.which("mount") is None:
        pytest.skip("there is no mount command")
    result = mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", folder)
    if result.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {reason(result)}")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.fixture
def read_only_disk(small_disk):
    """A file system that is mounted read-only; holds the file `old`."""
    (small_disk / "old").write_text("old")
    result = mount("-o", "remount,ro", small_disk)
    if result.returncode:
        pytest.skip(f"a tmpfs cannot be made read-only here: {reason(result)}")
    return small_disk


def mount(*arguments):
    return subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True, check=False)


def reason(result):
    """Return why a command failed, without the path that it names."""
    return result.stderr.partition("\n")[0].rpartition(": ")[2]


def make_digits(root, name="digits", kind="classification", **labels):
    """Make an embedded set below a root with the engine: dataset, task, and tensors of 8 pixels."""
    from foldwise.config.definition import DatasetRecord, Description, TaskRecord
    from foldwise.config.jobs import DatasetConfig, Origin
    from foldwise.config.preprocessing import Preprocessing, TensorRecord
    from foldwise.data.files import DataFiles
    from foldwise.data.preprocess import TensorFiles, preprocess_dataset
    from foldwise.tasks.dataset import create_dataset
    from foldwise.tasks.descriptions import DatasetFiles
    from foldwise.tasks.task import TaskFiles, create_task

    dataset = DatasetFiles.of(root / "datasets" / name)
    task, images = root / "tasks" / name / "task.json", root / "tensors" / name / "default-00000000/images.npy"
    made = SimpleNamespace(
        root=root,
        name=name,
        files=DataFiles.of(task, images),
        dataset=dataset,
        images=dataset.images,
        task=TaskFiles.of(root / "tasks" / name),
        tensors=TensorFiles.of(root / "tensors" / name / "default-00000000"),
        dataset_record=DatasetRecord(dataset=name),
        task_record=TaskRecord(dataset=name, type=kind, **labels),
        tensor_record=TensorRecord(dataset=name, preprocessing=Preprocessing(size=8)),
    )
    config, about = DatasetConfig(dataset=made.dataset_record), Description(licence="CC BY 4.0")
    create_dataset(config, Origin([], [], "stop"), about, 1, None, dataset)
    create_task(name, made.task_record, made.dataset_record, Description(), 1, dataset, made.task)
    preprocess_dataset(made.tensor_record, made.dataset_record, 1, dataset.description, dataset.images, made.tensors)
    return made


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """The digits with a task and tensors, for tests that change nothing on disk."""
    return make_digits(tmp_path_factory.mktemp("digits"))


@pytest.fixture
def own_digits(digits, tmp_path):
    """The same with task and tensors of the test's own, to be damaged."""
    copy = SimpleNamespace(**vars(digits))
    copy.task = type(digits.task).of(tmp_path / "tasks/digits")
    copy.tensors = type(digits.tensors).of(tmp_path / "tensors/digits/default-00000000")
    shutil.copytree(digits.task.description.parent, copy.task.description.parent)
    shutil.copytree(digits.tensors.manifest.parent, copy.tensors.manifest.parent)
    return copy


@pytest.fixture(scope="session")
def digits_task(digits):
    """The task of the digits as training reads it."""
    from foldwise.tasks.task import read_task

    return read_task(digits.task, digits.task_record)


@pytest.fixture(scope="session")
def digits_store(digits):
    """The tensors of the digits as training reads them."""
    from foldwise.data.tensors import open_tensors

    return open_tensors(digits.tensors, digits.tensor_record)


@pytest.fixture
def make_dataset(tmp_path):
    """Write a dataset of given images and labels; images are Pillow's or the bytes of a file."""
    return lambda images, labels=None, name="toy": write_dataset(tmp_path / "datasets" / name, images, labels or {})


def write_dataset(folder, images, labels):
    from foldwise.artifacts import sha256, write_csv, write_json
    from foldwise.config.canonical import differences
    from foldwise.config.definition import DatasetRecord
    from foldwise.tasks.descriptions import IMAGE_COLUMNS, DatasetFiles

    record, files = DatasetRecord(dataset=folder.name), DatasetFiles.of(folder)
    write_csv(files.images, IMAGE_COLUMNS, [write_image(folder, name, image) for name, image in images.items()])
    write_csv(files.annotations, ("image", "class"), labels.items())
    checksums = {name: sha256(path) for name, path in files.tables.items()}
    found = {"class_names": [], "mask_values": [], "duplicates": [], "skipped": []}
    write_json(files.description, {"definition": differences(record), "checksums": checksums, **found})
    return SimpleNamespace(record=record, files=files, dataset=files.description, images=files.images)


def write_image(folder, name, image):
    path = folder / "files" / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(image, bytes):
        path.write_bytes(image)
        return name, f"files/{path.name}", 8, 8, 3
    image.save(path)
    return name, f"files/{path.name}", *image.size, len(image.getbands())


def overlay(sections):
    """Overlay sections of a recipe on the tiny one; a section that names its component replaces it."""
    recipe = {section: dict(keys) for section, keys in TINY_RECIPE.items()}
    for section, keys in sections.items():
        recipe[section] = keys if "name" in keys else {**recipe.get(section, {}), **keys}
    return recipe


@pytest.fixture(scope="session")
def make_pipeline():
    """Build a recipe of a very small network and two short epochs, with sections of the test's own."""
    from foldwise.config.pipeline import Pipeline

    return lambda **sections: Pipeline.model_validate(overlay(sections))


@pytest.fixture(scope="session")
def train(digits, make_pipeline):
    """Train on the digits into a folder; returns the files with the record."""
    from foldwise.config.jobs import CoTask, TrainConfig
    from foldwise.training.fit import Run
    from foldwise.training.fold import ModelFiles, train_fold

    def run(
        folder, fold=0, seed=42, store=True, data=digits, report=lambda text: None, others=(), state=None, **sections
    ):
        config = TrainConfig(
            seed=seed,
            pipeline=make_pipeline(**sections),
            task=data.task_record,
            tensors=data.tensor_record,
            co_tasks=[CoTask(name=one.name, task=one.task_record, tensors=one.tensor_record) for one in others],
        )
        weights = folder / "model.safetensors" if store else None
        files = ModelFiles(folder / "model.json", folder / "metrics.csv", weights, state)
        opened = [one.files for one in (data, *others)]
        trained = train_fold(config, "default", fold, opened, files, revision=3, run=Run(report=report))
        return SimpleNamespace(folder=folder, record=trained.record, files=files, config=config)

    return run


@pytest.fixture(scope="session")
def trained(train, tmp_path_factory):
    """A model of fold 0, for tests that change nothing on disk."""
    return train(tmp_path_factory.mktemp("model"))
