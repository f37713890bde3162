"""Learning rate and batch size found before training: recorded, the same each time, and found once."""

import multiprocessing
import resource
import traceback

import numpy as np
import pytest

from foldwise.artifacts import read_json
from foldwise.errors import ConfigError
from foldwise.job import Stopped, StopRequest
from foldwise.training import tuning
from foldwise.training.fit import Run
from foldwise.training.tuning import HIGHEST, LOWEST, TUNED, Tuned, steepest, tune
from unit.conftest import overlay
from unit.training.toys import column, make_toy, toy_config, train_toys

SHORT = {"max_epochs": 2}
RATES = np.geomspace(1e-7, 1, 101)
FALLING = 1 / (1 + 100 * RATES)  # falls most at 0.01
