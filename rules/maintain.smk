# Modes that take care of what lies on disk. They have no outputs, so that they always run.


rule clean:
    log:
        f"{PROJECT}/logs/clean/clean.log",
    localrule: True
    conda:
        CONDA
    params:
        cfg=lambda wildcards: clean_config(),
        command=lambda wildcards: forced_command("clean"),
    message:
        "Mode clean: {params.cfg.plan}"
    script:
        "../scripts/clean.py"
