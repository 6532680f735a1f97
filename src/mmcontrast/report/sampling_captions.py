"""What is written under the figures of `sampling.py`; apart from them, so that the page needs no matplotlib."""

from __future__ import annotations

from mmcontrast.config import Grid
from mmcontrast.report.text.wording import LEVEL_NAME, count

CAPTIONS = {
    "alpha": """
        Alpha on {title}, {cases}. Left: test accuracy of a linear probe for each label, of cells trained with one alpha
        for all modalities. Right: what the search is rewarded with at the same alphas: how often one modality finds the
        rest of its tuple among held-out training tuples, summed over modalities, after a short training with dropped
        modalities. Dots: mean of {seeds}; lines on the left: {level} bootstrap interval over seeds; thin lines on the
        right: single seeds. The rank correlation (Spearman, of means over seeds) says whether the reward ranks alphas
        as accuracy on the first label does. sd of one seed: of the reward once the levels of seeds and alphas are taken
        out; where the spread over alpha is not well above it, a search of one seed follows noise.""",
    "search": """
        Search for alpha on {title}. Left: the mean of the policy by modality; thick lines: mean of {seeds}; thin lines:
        single seeds. Right: mean reward of a round's trials; band: lowest to highest trial of a round, both averaged
        over seeds. Each round goes on from a clone of the last, so that the reward rises with training too: what alpha
        makes of it is the width of the band. A third part is of the cell that searches the strength of the
        augmentations in turn with alpha: the factor on their noise, rounds counted over both.""",
    "similarity": """
        Training on {title}: mean cosine of an anchor with its positive, and with its own tuple when one modality is of
        another row. Where the two are close, the embedding ignores that modality. Mean of {seeds}.""",
    "removed": """
        Modalities removed at test time on {title}, {cases}: the probe of the whole embedding is given the embedding
        without one modality. Dots: mean of {seeds}; lines: {level} bootstrap interval over seeds.""",
}


def caption(grid: Grid, kind: str, dataset: str, n_cases: int) -> str:
    """What one of these figures shows, with n."""
    return " ".join(CAPTIONS[kind].split()).format(
        title=grid.datasets[dataset].title,
        seeds=count(len(grid.seeds_of(dataset)), "seed"),
        cases=count(n_cases, "test case"),
        level=LEVEL_NAME,
    )
