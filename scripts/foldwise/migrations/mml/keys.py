"""What mml-core calls things: keys of a description, task types, modalities, licences, keywords."""

from __future__ import annotations

TEXTS = ("description", "creation_protocol", "reference", "url", "download", "license", "release")
RENAMED = {  # as of 0.12, and up to 0.11
    "name": "alias",
    "keywords": "tags",
    "unlabeled_samples": "unlabeled_tuples",
    "train_samples": "train_tuples",
    "test_samples": "test_tuples",
}
DROPPED = ("task_id", "orig_performance", "top_performance")  # keys up to 0.11
KEYS = (
    "name", "task_type", "keywords", "modalities", "means", "stds", "sizes", "idx_to_class", "class_occ", *TEXTS,
    "unlabeled_samples", "train_folds", "train_samples", "test_samples",
)  # fmt: skip
SPLITS = {"train": "train_samples", "test": "test_samples", "unlabeled": "unlabeled_samples"}
TYPES = {
    "classification": "classification",
    "multilabel_classification": "multilabel",
    "semantic_segmentation": "segmentation",
    "regression": "regression",
    "no_task": "unlabeled",
}
TARGETS = {
    "classification": ("class",),
    "multilabel": ("classes", "soft_classes"),
    "segmentation": ("mask",),
    "regression": ("value",),
    "unlabeled": (),
}  # modalities that hold what is learned
MODALITIES = ("image", "mask", "class", "classes", "soft_classes", "value")
EMPTY_MASK = "EMPTY_MASK_TOKEN"  # stands for a mask that is all background
IGNORED = 255
UNKNOWN = "unknown"
CUSTOM = "License defined in TaskCreator description"
LICENCES = {  # names in common use, and what a description says
    "CC BY-NC 4.0": "Creative Commons Attribution-NonCommercial 4.0 International",
    "CC BY 4.0": "Creative Commons Attribution 4.0 International",
    "CC BY-NC-SA 4.0": "Creative Commons Attribution-NonCommercial-ShareAlike 4.0 International",
    "DbCL 1.0": "Open Data Commons DbCL v1.0",
    "CC0 1.0": "CC0 1.0 Universal (CC0 1.0) Public Domain Dedication",
    "MIT": "Massachusetts Institute of Technology",
}
KEYWORDS = frozenset((
    "medical", "animals", "buildings", "artificial", "natural_objects", "handwritings", "scenes", "faces", "driving",
    "dermatoscopy", "cataract_surgery", "laryngoscopy", "laparoscopy", "gastroscopy_colonoscopy", "endoscopy",
    "Nephrectomy", "fundus_photography", "ultrasound", "mri_scan", "x_ray", "ct_scan", "confocal laser endomicroscopy",
    "capsule endoscopy", "colposcopy", "endoscopic instruments", "counting endoscopic instruments",
    "anatomical structures", "tissue_pathology", "image_artefacts", "chars_or_digits", "chest", "brain", "eye",
    "breast", "bone", "Gynecology",
))  # fmt: skip
