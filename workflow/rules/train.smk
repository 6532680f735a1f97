# One job trains all seeds of a cell: importing torch costs more than a small run.


rule pretrain:
    input:
        plan=LAYOUT.cell_plan("{cell}", "pretrain"),
        data=cell_data,
    output:
        history=LAYOUT.stage("{cell}", "pretrain", "history.parquet"),
        embeddings=LAYOUT.stage("{cell}", "pretrain", "embeddings.parquet"),
        models=LAYOUT.stage("{cell}", "pretrain", f"models/{paths.CHECKSUMS}"),
        cost=LAYOUT.stage("{cell}", "pretrain", "cost.json"),
    log:
        LAYOUT.log("pretrain", "{cell}"),
    conda:
        "../envs/mmcontrast.yaml"
    threads: lambda wc: planned(wc).threads
    resources:
        gpu=lambda wc: planned(wc).gpus,
    params:
        select=LAYOUT.select,
    shell:
        "python -m mmcontrast pretrain {wildcards.cell}{params.select} > {log} 2>&1"


rule finetune:
    input:
        plan=LAYOUT.cell_plan("{cell}", "finetune"),
        data=cell_data,
        pretrained=pretrained,
    output:
        history=LAYOUT.stage("{cell}", "finetune", "history.parquet"),
        predictions=LAYOUT.stage("{cell}", "finetune", "predictions.parquet"),
        embeddings=LAYOUT.stage("{cell}", "finetune", "embeddings.parquet"),
        models=LAYOUT.stage("{cell}", "finetune", f"models/{paths.CHECKSUMS}"),
        cost=LAYOUT.stage("{cell}", "finetune", "cost.json"),
    log:
        LAYOUT.log("finetune", "{cell}"),
    conda:
        "../envs/mmcontrast.yaml"
    threads: lambda wc: planned(wc).threads
    resources:
        gpu=lambda wc: planned(wc).gpus,
    params:
        select=LAYOUT.select,
    shell:
        "python -m mmcontrast finetune {wildcards.cell}{params.select} > {log} 2>&1"
