"""Says whether success is tied to the imagined video, and whether failures are the video's or the actions'."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from videopolicy.cli._files import write_json
from videopolicy.cli._threads import choose_threads
from videopolicy.configs import check_limits, limited
from videopolicy.datasets.formats import open_any
from videopolicy.diagnosis import oracle_text
from videopolicy.diagnosis.diagnosis import diagnose
from videopolicy.diagnosis.oracle import consult
from videopolicy.diagnosis.plots import draw
from videopolicy.diagnosis.text import text
from videopolicy.errors import UserError
from videopolicy.ownership import owned
from videopolicy.rollout.protocols import MOST_EPISODES
from videopolicy.rollout.results import evaluation_folder, read_evaluation

# Of each task, with --oracle.
EPISODES = 20


@dataclass(frozen=True)
class Command:
    """Diagnose an evaluation: is success tied to the video, and was it wrong where the policy failed, or the actions?

    Judged from recordings and demonstrations, without the simulator. Writes diagnosis.json, with every episode's
    numbers, and two pictures. Evaluate with --record as large as --episodes, so that no success is missing.

    Example: videopolicy diagnose runs/button --data data/button

    With the true future in place of the imagined one: videopolicy diagnose runs/button --data data/new --oracle
    """

    run_folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN", name="run")]
    """A run that was evaluated, or the folder of an evaluation."""
    data: Path
    """A folder of demonstrations of the same tasks, all of whose actions are used (not a .toml list)."""
    out: Path | None = None
    """Where to write, if not to `diagnosis` in the evaluation's folder."""
    oracle: bool = False
    """Instead of judging recordings, show the head the true future, in recorded steps of the data and in the env, where
    its expert shows it: what then still fails is the head's. Give data that the policy was not trained on. Writes
    oracle.json."""
    episodes: int | None = limited(None, 0, MOST_EPISODES)
    """With --oracle: so many evaluated episodes of each task are played again, 20 by default; 0 reads recorded steps
    alone."""

    def run(self) -> None:
        """Measures, writes, and prints what was found.

        Raises:
            UserError: no evaluation, nothing recorded, a policy without video, or demonstrations that do not fit.
        """
        check_limits(self)
        choose_threads()
        if self.episodes is not None and not self.oracle:
            raise UserError("--episodes is about --oracle; leave it out")
        folder = evaluation_folder(self.run_folder)
        out = self.out or folder / "diagnosis"
        with owned(out, "diagnose", [self.data]):
            if self.oracle:
                self._consult(folder, out)
            else:
                self._write(folder, out)

    def _consult(self, folder: Path, out: Path) -> None:
        settings, rows = read_evaluation(self.run_folder)
        found = consult(settings, rows, open_any(self.data), EPISODES if self.episodes is None else self.episodes)
        out.mkdir(parents=True, exist_ok=True)
        about = {"evaluation": str(folder), "data": str(self.data)}
        write_json(out / "oracle.json", about | {"verdict": oracle_text.verdict(found)} | found.to_json())
        print(oracle_text.text(found))
        print(f"wrote {out / 'oracle.json'}")

    def _write(self, folder: Path, out: Path) -> None:
        _, rows = read_evaluation(self.run_folder)
        found = diagnose(folder, rows, open_any(self.data))
        out.mkdir(parents=True, exist_ok=True)
        about = {"evaluation": str(folder), "data": str(self.data)}
        write_json(out / "diagnosis.json", about | found.to_json())
        pictures = draw(found, out)
        print(text(found))
        print(f"wrote {', '.join(str(path) for path in (out / 'diagnosis.json', *pictures))}")
