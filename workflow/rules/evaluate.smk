# Scores come from stored predictions, or from embeddings by a linear probe or by retrieval: no model is loaded, and
# every number can be recomputed by anyone.


rule evaluate:
    input:
        plan=LAYOUT.cell_plan("{cell}", "evaluate"),
        scored=scored,
    output:
        metrics=LAYOUT.metrics("{cell}"),
        curves=LAYOUT.curves("{cell}"),
        intervals=LAYOUT.intervals("{cell}"),
    log:
        LAYOUT.log("evaluate", "{cell}"),
    conda:
        "../envs/mmcontrast.yaml"
    params:
        select=LAYOUT.select,
    shell:
        "python -m mmcontrast evaluate {wildcards.cell}{params.select} > {log} 2>&1"
