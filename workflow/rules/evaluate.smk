# Scores come from stored predictions, or from embeddings by a linear probe or by retrieval: no model is loaded, and
# every number can be recomputed by anyone.


def scored(wc):
    """A cell without a classifier is scored by a probe on its embeddings."""
    cell = CELLS[wc.cell]
    return LAYOUT.scored(wc.cell, cell.last_stage, cell.scored_by)


rule evaluate:
    input:
        code=sources("mmcontrast.evaluation.evaluate"),
        scored=scored,
    output:
        metrics=LAYOUT.metrics("{cell}"),
        curves=LAYOUT.curves("{cell}"),
        intervals=LAYOUT.intervals("{cell}"),
    log:
        LAYOUT.log("evaluate", "{cell}"),
    params:
        dvc=lambda wc: GRID.tracked_scoring(CELLS[wc.cell]),
        values=lambda wc: CELLS[wc.cell].metrics,
    shell:
        "python -m mmcontrast evaluate {wildcards.cell}{SELECT} > {log} 2>&1"
