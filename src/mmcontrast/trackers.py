"""Each epoch's losses for the experiment trackers that MMCONTRAST_TRACKERS names: tensorboard, mlflow, dvclive.

A run per seed of a stage: in logs/trackers/, MLflow's where MLFLOW_TRACKING_URI says. They decide nothing: random
states are put back after each call, and a tracker that fails is left out from then on.
"""

import importlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmcontrast.errors import ConfigError, nearest
from mmcontrast.training import seeding

Report = Callable[[int, int, int, dict[str, float]], None]
log = logging.getLogger(__name__)
LIBRARIES = {"tensorboard": "torch.utils.tensorboard", "mlflow": "mlflow", "dvclive": "dvclive"}


def tracked(report: Report, named: str, folder: Path) -> Report:
    """`report`, and then these trackers, names with commas between them; `folder`: of the stage's runs. Raises
    ConfigError: there is no such tracker, or it is not installed or, of MLflow, has no place.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    libraries = {name: _library(name) for name in named.replace(" ", "").split(",")}
    runs: dict[tuple[str, int], tuple[Callable[[str, float, int], Any], Callable[[], Any]]] = {}

    def told(seed: int, epoch: int, epochs: int, terms: dict[str, float]) -> None:
        report(seed, epoch, epochs, terms)
        state = seeding.random_state()
        for name in list(libraries):
            try:
                if (name, seed) not in runs:
                    runs[name, seed] = _run(name, libraries[name], folder / f"seed{seed}", epoch)
                tell, end = runs[name, seed]
                for term, value in terms.items():
                    tell(term, value, epoch)
                if epoch == epochs - 1:
                    end()
            except Exception as e:  # whatever a library raises, training goes on
                log.warning("%s: %s; it is told nothing more of this stage", name, str(e).strip() or type(e).__name__)
                del libraries[name]
        seeding.restore(state)

    return told


def _library(name: str) -> Any:
    if name not in LIBRARIES:
        raise ConfigError(f"MMCONTRAST_TRACKERS: '{name}' is not a tracker; {nearest(name, LIBRARIES)}")
    if name == "mlflow" and not os.environ.get("MLFLOW_TRACKING_URI"):
        raise ConfigError("MMCONTRAST_TRACKERS: mlflow needs MLFLOW_TRACKING_URI, such as http://127.0.0.1:5000")
    try:
        return importlib.import_module(LIBRARIES[name])
    except ImportError as e:
        raise ConfigError(f"MMCONTRAST_TRACKERS: {name} is not installed ({e}); run `pip install {name}`") from None


def _run(name: str, library: Any, folder: Path, epoch: int) -> Any:
    """What takes (name, value, epoch), and what ends the run; `epoch`: from which it goes on."""
    if name == "tensorboard":
        writer = library.SummaryWriter(folder, purge_step=epoch)
        return writer.add_scalar, writer.close
    if name == "mlflow":
        library.set_experiment("mmcontrast")
        library.start_run(run_name=folder.as_posix())
        return library.log_metric, library.end_run
    live = library.Live(str(folder), resume=epoch > 0, save_dvc_exp=False, dvcyaml=None, report=None)

    def tell(term: str, value: float, epoch: int) -> None:
        live.step = epoch
        live.log_metric(term, value)

    return tell, live.end
