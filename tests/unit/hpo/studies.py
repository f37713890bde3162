"""Small studies of the digits, and records of trials as their files have them."""

from foldwise.artifacts import write_json
from foldwise.config.canonical import tensor_folder
from foldwise.config.hpo import Hpo
from foldwise.config.pipeline import Pipeline
from foldwise.config.preprocessing import Preprocessing
from foldwise.config.space import resolve_space
from foldwise.config.study import StudyConfig
from foldwise.data.files import DataFiles
from foldwise.hpo.trial import TrialFiles, finish, run_trial
from foldwise.hpo.trials import TrialRecord, definition_of, write_trial
from foldwise.training.fit import Run
from unit.config.loading import LIBRARY
from unit.conftest import overlay

LR = {"low": 1e-3, "high": 0.1, "log": True}
SPACE = {"optimizer.lr": LR, "sampling.batch_size": [64, 128]}


def make_study(space=None, folds=(0,), recipe=None, **hpo):
    """Return a study of the digits; keys of `hpo` are those of the section."""
    section = Hpo.model_validate({"search_space": space or SPACE, "study": "first", **hpo})
    short = {"trainer": {"max_epochs": 2, "limit_train_batches": 2, "limit_val_batches": 1}}
    pipeline = Pipeline.model_validate(overlay({**short, **(recipe or {})}))
    return StudyConfig(
        study=str(section.study),
        direction=section.direction,
        metric=section.metric,
        sampler=section.sampler,
        pruner=section.pruner,
        space=resolve_space(section.search_space, pipeline, LIBRARY),
        pipeline=pipeline,
        models=[{"task": "digits", "fold": fold} for fold in folds],
        tasks={"digits": {"dataset": "digits"}},
    )


def make_record(config, trial, parameters, value=0.5, state="complete", **keys):
    """Return the record of a trial."""
    plain = {
        "intermediate_values": [],
        "folds": [],
        "epochs": 2,
        "error": None,
        "pruner": {},
        "inputs": "",
        "recipe": None,
        "parallel": 1,
    }
    return TrialRecord(
        study=config.study,
        trial=trial,
        state=state,
        value=None if state == "failed" else value,
        parameters=parameters,
        definition=definition_of(config),
        **{**plain, **keys},
    )


def write_records(folder, records, times=()):
    """Write records below a study's folder, and how some of them ran; return their files."""
    for record in records:
        write_trial(folder / f"trials/{record.trial}.json", record)
    for number, (started, finished) in enumerate(times):
        write_json(folder / f"runs/{number}.json", {"started": started, "finished": finished})
    return [folder / f"trials/{record.trial}.json" for record in records]


def data_of(digits, folder):
    """Return what trials read of the digits: their tensors in a folder of the right name."""
    place = folder / "tensors/digits" / tensor_folder(Preprocessing(size=8))
    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.exists():
        place.symlink_to(digits.tensors.manifest.parent)
    return [DataFiles.of(digits.task.description, place / "images.npy")]


class Study:
    """A study that runs trials of the digits below a folder."""

    def __init__(self, digits, folder, config, parallel=1):
        self.data = data_of(digits, folder / "data")
        self.folder, self.config, self.parallel = folder, config, parallel
        self.lines = []

    def files(self, number):
        return TrialFiles.of(self.folder / "results/studies" / self.config.study / "trials" / f"{number}.json")

    def run(self, number, **keys):
        """Run a trial; `keys` are those of `Run`."""
        run = Run(announce=self.lines.append, **{"report": self.lines.append, "minutes": 0.0, **keys})
        files = self.files(number)
        record = run_trial(self.config, number, self.parallel, self.data, files, 1, run)
        finish(files)
        return record

    def bytes(self, *numbers):
        return [self.files(number).record.read_bytes() for number in numbers]
