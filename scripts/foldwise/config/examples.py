"""What the documents show by example: a definition for every kind of source, and what tags do."""

from __future__ import annotations

from typing import NamedTuple


class Example(NamedTuple):
    """A definition of a task as it is written under `definitions`, and what its source must hold."""

    about: str
    text: str


SOURCES = {
    "folder": Example(
        "A folder of images for each class; above them, if there are splits, folders `train`, `test`, `unlabeled`.",
        """
birds:
  source: folder
  path: images/birds  # holds robin/1.jpg or train/robin/1.jpg
  test_fraction: 0.2
  licence: CC BY 4.0
""",
    ),
    "table": Example(
        "A table with a line for each image; columns that are not called as their role are named in `columns`.",
        """
lesions:
  source: table
  url:
    - https://example.org/lesions/images.zip
    - https://example.org/lesions/patients.csv
  sha256:
    - 0f343b0931126a20f133d67c2b018a3b4d5f2d3e5a7c8b9e1d0f2a4c6b8e0d1f
    - 9b74c9897bac770ffc029102a200c5de3a4f5b6c7d8e9f0a1b2c3d4e5f60718f
  mirrors: [https://mirror.example.org/lesions]
  table: patients.csv
  images: images
  columns: {image: file_name, class: diagnosis, group: patient}
  classes: {malignant: [melanoma, carcinoma], benign: [nevus]}
""",
    ),
    "masks": Example(
        "Two folders: a mask has the name of its image, and the values of its pixels are classes.",
        """
instruments:
  source: masks
  type: segmentation
  path: images/instruments.zip
  images: frames
  masks: labels
  classes: {background: [0], shaft: [1, 2], tip: [3]}
""",
    ),
    "coco": Example(
        "Annotations in the format of COCO; polygons, runs or boxes are drawn as masks.",
        """
shelves:
  source: coco
  type: segmentation
  path: images/shelves
  annotations: {train: annotations/train.json, test: annotations/test.json}
""",
    ),
    "arrays": Example(
        "NumPy arrays (`.npz`, or a folder of `.npy`) or an HDF5 file, with an array of images for each split.",
        """
galaxies:
  source: arrays
  type: regression
  path: images/galaxies.npz
  arrays: {images: "{split}_pixels", targets: "{split}_redshift"}
""",
    ),
    "dicom": Example(
        "DICOM files with a table, or with folders for classes, or with masks.",
        """
radiographs:
  source: dicom
  type: multilabel
  path: images/radiographs
  table: findings.csv
  images: dicom
  columns: {image: file, classes: [effusion, nodule], group: patient}
  window: [-600, 1500]
""",
    ),
    "nifti": Example(
        "NIfTI volumes cut into slices along an axis, with a table, or with folders for classes, or with masks.",
        """
livers:
  source: nifti
  type: segmentation
  path: images/livers
  images: imagesTr
  masks: labelsTr
  window: [-100, 240]
  axis: 2
  classes: {background: [0], liver: [1], tumour: [2]}
""",
    ),
    "medmnist": Example(
        "A set of MedMNIST by name, in one of its sizes.",
        """
colons:
  source: medmnist
  name: pathmnist
  size: 64
""",
    ),
    "cifar10": Example(
        "CIFAR-10 as its authors distribute it.",
        """
pictures:
  source: cifar10
  ensure_balancing: false
""",
    ),
    "cifar100": Example(
        "CIFAR-100 as its authors distribute it.",
        """
objects:
  source: cifar100
  n_folds: 10
""",
    ),
    "fashion_mnist": Example(
        "Fashion-MNIST as its authors distribute it; all named sets take mirrors.",
        """
clothes:
  source: fashion_mnist
  mirrors: [https://mirror.example.org/fashion]
""",
    ),
    "emnist": Example(
        "A set of EMNIST by name.",
        """
handwriting:
  source: emnist
  name: letters
""",
    ),
    "svhn": Example(
        "Street View House Numbers, cropped digits.",
        """
housenumbers:
  source: svhn
""",
    ),
    "embedded": Example(
        "Sets that come with the core dependencies; several tasks may share a dataset.",
        """
tenfold:
  dataset: digits
  n_folds: 10
""",
    ),
    "python": Example(
        "A function of your own that yields a mapping for each sample: `image`, and `class` or another label.",
        """
circles:
  source: python
  path: code  # a folder in which modules are looked for first
  function: shapes:draw_circles
  arguments: {count: 500, noise: 0.1}
""",
    ),
}
TAGS = {
    "identity": ("+identity", "The same content under another name."),
    "nested": (
        "+nested-0",
        "The old test split is dropped; fold FOLD becomes the test split, and the other training samples are dealt "
        "into NFOLDS folds (as many as before if left out).",
    ),
    "subset": (
        "+subset-0.5",
        "A share of the training samples, drawn class by class with a seed (0 if left out); the test split stays.",
    ),
    "classes": ("+classes-0.1.2", "Samples of these classes alone."),
    "noise": (
        "+noise-0.1",
        "A share of the training labels, drawn with a seed (0 if left out), is changed to another class.",
    ),
    "own": (
        "+own-short-0.5",
        "What a function of your own makes of the samples, a table of pandas: it drops rows, changes labels, splits "
        "and folds. `tagging.functions: {short: my_tags:shorten}` names it; arguments arrive as text. Its name there "
        "has no `-`, which would start an argument.",
    ),
}
