"""The folder of the user's state: the daily budget, the names of model files and records of demos."""

from collections.abc import Mapping
from pathlib import Path


def state_folder(env: Mapping[str, str]) -> Path:
    """Return MIXTURA_HOME, else the folder that the XDG rules give. The folder need not exist."""
    if env.get("MIXTURA_HOME"):
        return Path(env["MIXTURA_HOME"])
    state = Path(env.get("XDG_STATE_HOME", ""))
    if not state.is_absolute():  # the XDG rules: ignore a relative path
        state = (Path(env["HOME"]) if env.get("HOME") else Path.home()) / ".local" / "state"
    return state / "mixtura"


def make_folders(folder: Path) -> None:
    """Make a folder and its missing parents, accessible to their owner only."""
    if not folder.exists():
        make_folders(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
