# Scores come from stored predictions: no model is loaded, and every number can be recomputed by anyone.


rule evaluate:
    input:
        code=sources("mmcontrast.evaluation.evaluate"),
        predictions=LAYOUT.stage("{cell}", "finetune", "predictions.parquet"),
    output:
        metrics=LAYOUT.metrics("{cell}"),
        curves=LAYOUT.curves("{cell}"),
        intervals=LAYOUT.intervals("{cell}"),
    log:
        LAYOUT.log("evaluate", "{cell}"),
    params:
        dvc=lambda wc: [f"params/datasets/{CELLS[wc.cell].dataset}.yaml:metrics"],
        values=lambda wc: CELLS[wc.cell].metrics,
    shell:
        "python -m mmcontrast evaluate {wildcards.cell}{SELECT} > {log} 2>&1"
