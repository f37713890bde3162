# Mode hpo: a study of other settings of a pipeline; its trials are files, its best becomes a blueprint.


rule hpo:
    input:
        collect_hpo,
    localrule: True
    message:
        "Mode hpo: The study is there."


rule run_trial:
    input:
        unpack(trial_files),
    output:
        trial=f"{PROJECT}/studies/{{study}}/trials/{{trial}}.json",
        run=f"{PROJECT}/studies/{{study}}/runs/{{trial}}.json",
    log:
        f"{PROJECT}/logs/run_trial/{{study}}/{{trial}}.log",
    benchmark:
        f"{PROJECT}/benchmarks/run_trial/{{study}}/{{trial}}.tsv"
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=4000,
        runtime=1440,
    params:
        cfg=lambda wildcards: study_config(),
        revision=1,
        parallel=lambda wildcards: parallel_of(int(wildcards.trial)),
    message:
        "Trial {wildcards.trial} of study {wildcards.study}: {params.cfg.plan}"
    script:
        "../scripts/run_trial.py"


rule tabulate_study:
    input:
        trials=lambda wildcards: study_trials(),
    output:
        table=f"{PROJECT}/studies/{{study}}/trials.csv",
    log:
        f"{PROJECT}/logs/tabulate_study/{{study}}.log",
    benchmark:
        f"{PROJECT}/benchmarks/tabulate_study/{{study}}.tsv"
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    params:
        cfg=lambda wildcards: best_config(),
        revision=1,
    message:
        "Tabulate study {wildcards.study}: {params.cfg.plan}"
    script:
        "../scripts/tabulate_study.py"


rule write_blueprint:
    input:
        trials=lambda wildcards: study_trials(),
        table=f"{PROJECT}/studies/{{study}}/trials.csv",
    output:
        blueprint=f"{PROJECT}/studies/{{study}}/blueprint.yaml",
    log:
        f"{PROJECT}/logs/write_blueprint/{{study}}.log",
    benchmark:
        f"{PROJECT}/benchmarks/write_blueprint/{{study}}.tsv"
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    params:
        cfg=lambda wildcards: best_config(),
        revision=1,
    message:
        "Write the best of study {wildcards.study} as a blueprint: {params.cfg.plan}"
    script:
        "../scripts/write_blueprint.py"


rule export_study:
    input:
        trials=lambda wildcards: study_trials(),
    output:
        record=f"{PROJECT}/studies/{{study}}/export.json",
    log:
        f"{PROJECT}/logs/export_study/{{study}}.log",
    benchmark:
        f"{PROJECT}/benchmarks/export_study/{{study}}.tsv"
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=500,
        runtime=30,
    params:
        cfg=lambda wildcards: export_config(),
        revision=1,
    message:
        "Copy the trials of study {wildcards.study} to {params.cfg.plan}"
    script:
        "../scripts/export_study.py"
