"""The models of a cell for others: files and card in one commit to a repository of the Hugging Face hub."""

from pathlib import Path

from mmcontrast.config import Grid
from mmcontrast.data.files import read_json
from mmcontrast.data.pretrained import first_line
from mmcontrast.errors import ConfigError, DataError, FetchError, nearest, not_installed
from mmcontrast.exported import sealed, weights_name
from mmcontrast.paths import CHECKSUMS, Layout
from mmcontrast.report.outputs import reproduce


def push(grid: Grid, layout: Layout, name: str, repository: str, public: bool) -> str:
    """Upload what the last stage of a cell has exported, with its card as README.md; the address of the commit.
    `repository`: OWNER/NAME, created private if there is none. `public`: make it public.

    Raises ConfigError: huggingface_hub is not installed, or the data of a public model may not be redistributed;
    DataError: the cell has no models or card, or a file is not what training wrote; FetchError: the hub refuses.
    """
    try:
        from huggingface_hub import CommitOperationAdd, HfApi
    except ImportError:
        raise not_installed("mmcontrast push", "huggingface_hub") from None
    if name not in grid.cells:
        raise ConfigError(f"{name}: no cell of this suite; {nearest(name, grid.cells)}")
    cell, card = grid.cells[name], Path(layout.card(name))
    data = grid.datasets[cell.dataset]
    if public and not data.redistribute:
        raise ConfigError(
            f"{name}: the licence of its data ({data.licence}) allows no redistribution, and models keep names and "
            "statistics of them; push without --public"
        )
    folder = Path(layout.stage(name, cell.last_stage, "models"))
    if not card.is_file() or not (folder / CHECKSUMS).is_file():
        raise DataError(f"{name}: its models or its card {card} are not here; run `{reproduce(layout)}` first")
    text = card.read_text(encoding="utf-8").replace(f"{folder}/", "")
    text = text.replace("import mmcontrast\n", "import mmcontrast\nfrom huggingface_hub import snapshot_download\n")
    text = text.replace(f'load("{weights_name(cell.seeds[0])}")', f'load(snapshot_download("{repository}"))')
    content: dict[str, Path | bytes] = {file: sealed(folder / file) for file in read_json(folder / CHECKSUMS)}
    content |= {"README.md": text.encode(), CHECKSUMS: folder / CHECKSUMS}
    try:
        hub = HfApi()
        hub.create_repo(repository, private=not public, exist_ok=True)
        added = [CommitOperationAdd(where, what) for where, what in content.items()]
        made = hub.create_commit(repository, added, commit_message=f"Models of {name}")
    except Exception as e:  # its own, and those of what it speaks HTTP with
        raise FetchError(f"{repository}: not uploaded ({first_line(e)}); log in with `hf auth login`") from None
    return str(made.commit_url)
