# Foldwise: deep learning on many image tasks as a reproducible pipeline.
#
# A mode is a target, snakemake MODE --cores 2: create | pp | train | tl | predict | test | post | info | hpo | clean
# What would be computed, and why: snakemake train -n
import os
import shlex
import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.27")


# What jobs put down as the command that they are part of, wherever they run.
os.environ.setdefault("FOLDWISE_COMMAND", shlex.join(sys.argv))
OWN_CONFIG = Path("config/config.yaml")
SHIPPED_CONFIG = Path(workflow.current_basedir) / "config/config.yaml"


envvars:
    "FOLDWISE_COMMAND",


configfile: str(OWN_CONFIG if OWN_CONFIG.is_file() else SHIPPED_CONFIG)


include: "rules/common.smk"
include: "rules/create.smk"
include: "rules/pp.smk"
include: "rules/train.smk"
include: "rules/tl.smk"
include: "rules/predict.smk"
include: "rules/test.smk"
include: "rules/post.smk"
include: "rules/hpo.smk"
include: "rules/info.smk"
include: "rules/maintain.smk"


report: "rules/captions/project.rst"


rule all:
    default_target: True
    input:
        collect_all,
    message:
        "Mode train: Models are there."


onstart:
    OLD_OUTPUTS.keep(workflow)
    or_stop(keep_config, CONFIG, Path(f"{PROJECT}/config.yaml"))


onsuccess:
    OLD_OUTPUTS.put_back(workflow)


onerror:
    OLD_OUTPUTS.put_back(workflow)
