# One job trains all seeds of a cell: importing torch costs more than a small run.
from mmcontrast.methods.registry import training_modules


def training_code(wc):
    return sources(*training_modules(CELLS[wc.cell]))


def cell_data(wc):
    return [paths.prepared(*part) for part in CELLS[wc.cell].data]


def cell_values(stage):
    """Everything that decides a stage's result; pretraining does not hang on what comes after it."""
    later = {"pretrain": {"finetune", "metrics"}, "finetune": set()}[stage]
    return lambda wc: CELLS[wc.cell].model_dump(mode="json", exclude=later)


def cell_params(stage):
    return lambda wc: GRID.tracked_params(CELLS[wc.cell], stage)


def pretrained(wc):
    return (
        [LAYOUT.stage(wc.cell, "pretrain", "models")] if CELLS[wc.cell].pretrain else []
    )


rule pretrain:
    input:
        code=training_code,
        data=cell_data,
    output:
        history=LAYOUT.stage("{cell}", "pretrain", "history.parquet"),
        embeddings=LAYOUT.stage("{cell}", "pretrain", "embeddings.parquet"),
        models=directory(LAYOUT.stage("{cell}", "pretrain", "models")),
        cost=LAYOUT.stage("{cell}", "pretrain", "cost.json"),
    log:
        LAYOUT.log("pretrain", "{cell}"),
    threads: lambda wc: CELLS[wc.cell].engine.ranks * CELLS[wc.cell].engine.threads
    resources:
        gpu=lambda wc: int(CELLS[wc.cell].engine.device == "cuda")
        * CELLS[wc.cell].engine.ranks,
    params:
        dvc=cell_params("pretrain"),
        values=cell_values("pretrain"),
    shell:
        "python -m mmcontrast pretrain {wildcards.cell}{SELECT} > {log} 2>&1"


rule finetune:
    input:
        code=training_code,
        data=cell_data,
        pretrained=pretrained,
    output:
        history=LAYOUT.stage("{cell}", "finetune", "history.parquet"),
        predictions=LAYOUT.stage("{cell}", "finetune", "predictions.parquet"),
        embeddings=LAYOUT.stage("{cell}", "finetune", "embeddings.parquet"),
        models=directory(LAYOUT.stage("{cell}", "finetune", "models")),
        cost=LAYOUT.stage("{cell}", "finetune", "cost.json"),
    log:
        LAYOUT.log("finetune", "{cell}"),
    threads: lambda wc: CELLS[wc.cell].engine.ranks * CELLS[wc.cell].engine.threads
    resources:
        gpu=lambda wc: int(CELLS[wc.cell].engine.device == "cuda")
        * CELLS[wc.cell].engine.ranks,
    params:
        dvc=cell_params("finetune"),
        values=cell_values("finetune"),
    shell:
        "python -m mmcontrast finetune {wildcards.cell}{SELECT} > {log} 2>&1"
