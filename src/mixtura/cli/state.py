"""What `mixtura doctor` says of the state folder: whether it can be written, and by whom."""

import shlex
from collections.abc import Mapping

from mixtura.cli.checks import Check
from mixtura.errors import ConfigError
from mixtura.places import state_folder, state_problem


def check_state(env: Mapping[str, str]) -> Check:
    """Return the finding about the folder that the daily budget, names of files and records are kept in."""
    try:
        folder = state_folder(env)
    except ConfigError as error:
        return Check(name="state folder", ok=False, said=error.message)
    where = f"{'MIXTURA_HOME is ' * bool(env.get('MIXTURA_HOME'))}{str(folder)!r}"
    problem = state_problem(env)
    if not problem:
        said = "can be written" if folder.exists() else "is made when something is kept there"
        return Check(name="state folder", ok=True, said=f"{where}, which {said}")
    fix = "set MIXTURA_HOME to a folder of your own that you may write"
    if problem.startswith("every user"):
        fix = f"chmod o-w {shlex.quote(str(folder))}"
    return Check(name="state folder", ok=False, said=f"{where}: {problem}", fix=fix)
