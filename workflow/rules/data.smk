# Dataset files say what is fetched; what a suite runs never depends on what happens to be reachable.
from mmcontrast.data.preparers import preparer


rule fetch:
    input:
        code=sources("mmcontrast.data.fetch"),
    output:
        raw=directory(paths.raw_dir("{dataset}")),
    log:
        LAYOUT.log("fetch", "{dataset}"),
    params:
        dvc=lambda wc: [f"params/datasets/{wc.dataset}.yaml:sources"],
        values=lambda wc: GRID.datasets[wc.dataset].model_dump(
            mode="json", include={"sources"}
        ),
    shell:
        "python -m mmcontrast data fetch {wildcards.dataset} > {log} 2>&1"


def raw_input(wc):
    """A generated dataset has nothing to fetch."""
    return [paths.raw_dir(wc.dataset)] if GRID.datasets[wc.dataset].sources else []


def dataset_params(wc):
    """Keys that exist in the file; `metrics` is left out, since it decides nothing here."""
    given = GRID.datasets[wc.dataset].model_fields_set - {"metrics"}
    return sorted(f"params/datasets/{wc.dataset}.yaml:{key}" for key in given)


rule prepare:
    input:
        code=lambda wc: sources(
            "mmcontrast.data.prepare",
            f"mmcontrast.data.prepare.{preparer(wc.dataset, GRID.datasets[wc.dataset])}",
        ),
        raw=raw_input,
    output:
        train=paths.prepared("{dataset}", "train"),
        val=paths.prepared("{dataset}", "val"),
        test=paths.prepared("{dataset}", "test"),
        datasheet=paths.datasheet("{dataset}"),
    log:
        LAYOUT.log("prepare", "{dataset}"),
    params:
        dvc=dataset_params,
        values=lambda wc: GRID.datasets[wc.dataset].model_dump(
            mode="json", exclude={"metrics"}
        ),
    shell:
        "python -m mmcontrast data prepare {wildcards.dataset} > {log} 2>&1"
