# Mode info: tables and pictures of what is there; nothing is made for it.


rule info:
    input:
        collect_info,
    log:
        f"{PROJECT}/logs/info/info.log",
    localrule: True
    conda:
        CONDA
    message:
        "Mode info: What is there so far."
    script:
        "../scripts/info.py"


rule describe_tasks:
    output:
        **info_outputs("tasks"),
    log:
        f"{PROJECT}/logs/describe_tasks/info.log",
    benchmark:
        f"{PROJECT}/benchmarks/describe_tasks/info.tsv"
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        cfg=lambda wildcards: info_config("tasks"),
        revision=1,
        listing=lambda wildcards: info_listing("tasks"),
    message:
        "Describe tasks: {params.cfg.plan}"
    script:
        "../scripts/describe_tasks.py"


rule draw_samples:
    output:
        **info_outputs("samples"),
    log:
        f"{PROJECT}/logs/draw_samples/info.log",
    benchmark:
        f"{PROJECT}/benchmarks/draw_samples/info.tsv"
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        cfg=lambda wildcards: info_config("samples"),
        revision=1,
        listing=lambda wildcards: info_listing("samples"),
    message:
        "Draw samples: {params.cfg.plan}"
    script:
        "../scripts/draw_samples.py"


rule describe_models:
    output:
        **info_outputs("models"),
    log:
        f"{PROJECT}/logs/describe_models/info.log",
    benchmark:
        f"{PROJECT}/benchmarks/describe_models/info.tsv"
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        cfg=lambda wildcards: info_config("models"),
        revision=1,
        listing=lambda wildcards: info_listing("models"),
    message:
        "Describe models: {params.cfg.plan}"
    script:
        "../scripts/describe_models.py"


rule describe_studies:
    output:
        **info_outputs("hpo"),
    log:
        f"{PROJECT}/logs/describe_studies/info.log",
    benchmark:
        f"{PROJECT}/benchmarks/describe_studies/info.tsv"
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        cfg=lambda wildcards: info_config("hpo"),
        revision=1,
        listing=lambda wildcards: info_listing("hpo"),
    message:
        "Describe studies: {params.cfg.plan}"
    script:
        "../scripts/describe_studies.py"


rule trace_artifact:
    output:
        **info_outputs("artifact"),
    log:
        f"{PROJECT}/logs/trace_artifact/info.log",
    benchmark:
        f"{PROJECT}/benchmarks/trace_artifact/info.tsv"
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=1000,
        runtime=30,
    params:
        cfg=lambda wildcards: info_config("artifact"),
        revision=1,
        listing=lambda wildcards: info_listing("artifact"),
    message:
        "Trace {params.cfg.plan}"
    script:
        "../scripts/trace_artifact.py"
