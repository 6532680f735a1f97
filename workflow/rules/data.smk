# Dataset files say what is fetched; what a suite runs never depends on what happens to be reachable.


rule fetch:
    input:
        plan=paths.data_plan("{dataset}", "fetch"),
    output:
        manifest=paths.raw_manifest("{dataset}"),
    log:
        LAYOUT.log("fetch", "{dataset}"),
    priority: 1  # before all else, so that a missing network is known within the first minute
    conda:
        "../envs/mmcontrast.yaml"
    shell:
        "python -m mmcontrast data fetch {wildcards.dataset} > {log} 2>&1"


rule prepare:
    input:
        plan=paths.data_plan("{dataset}", "prepare"),
        raw=raw_input,
        base=base_input,
    output:
        train=paths.prepared("{dataset}", "train"),
        val=paths.prepared("{dataset}", "val"),
        test=paths.prepared("{dataset}", "test"),
        datasheet=paths.datasheet("{dataset}"),
        fitted=paths.fitted("{dataset}"),
        croissant=paths.croissant("{dataset}"),
    log:
        LAYOUT.log("prepare", "{dataset}"),
    conda:
        "../envs/mmcontrast.yaml"
    shell:
        "python -m mmcontrast data prepare {wildcards.dataset} > {log} 2>&1"
