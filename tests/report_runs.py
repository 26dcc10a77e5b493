"""Run folders made by hand and a page read back: what the tests of the report stand on."""

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxpg.config import dump, load_recipe
from jaxpg.report import main
from jaxpg.scores.evaluation_file import Evaluation, add_evaluation
from jaxpg.scores.intervals import summarize
from jaxpg.viewing.run_log import read_run
from jaxpg.viewing.video import video_place, write_video
from jaxpg.viewing.views import Run, number_runs

CONFIG = load_recipe(Path(__file__).parents[1] / "configs" / "pong.yaml")


def report(*argv: str | Path, code: int = 0) -> None:
    """Runs the command, which ends with this exit code."""
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in argv])
    assert end.value.code == code


def colors_of(path: Path) -> np.ndarray:
    """The colors of a picture's pixels, ``uint8[H, W, 3]``."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def logs(*folders: Path) -> list[Run]:
    return number_runs([read_run(str(folder)) for folder in folders])


def made_run(folder: Path, *, returns: list[float], seed: int = 1, **changes) -> Path:
    """A run folder by hand: an iteration a second, and after the first a game in each."""
    folder.mkdir(parents=True)
    run = replace(CONFIG.run, seed=seed, **changes.pop("run", {}))
    (folder / "config.yaml").write_text(dump(replace(CONFIG, run=run, **changes)))
    lines, games = [], ["agent_steps,wall_seconds,lane,candidate,return,length_agent_steps"]
    for i, mean in enumerate([None, *returns]):
        line = {"iteration": i + 1, "agent_steps": 1000 * (i + 1), "frames": 4000 * (i + 1), "episodes": i}
        line |= {"wall_seconds": float(i + 1), "agent_steps_per_second": 1000.0, "return_mean_100": mean}
        line |= {"entropy": 0.7 - 0.1 * i, "kl": 1e-9}
        line |= {"emulate_seconds": 0.5, "act_seconds": 0.3, "learn_seconds": 0.15, "other_seconds": 0.05}
        lines.append(json.dumps(line))
        if mean is not None:
            games.append(f"{1000 * (i + 1)},{i + 1},0,{i % 3},{mean},100")
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "episodes.csv").write_text("\n".join(games) + "\n")
    (folder / "checkpoints").mkdir()
    return folder


def made_evaluation(returns: list[float], checkpoint: int = 7, **games) -> Evaluation:
    env = {"game": "Pong", "actions": [2, 3]}
    return Evaluation(
        checkpoint=checkpoint,
        actions="sampled",
        seed=0,
        env=env,
        **summarize(np.array(returns), env, **games)._asdict(),
        seconds=1.5,
        agent_steps=100,
        returns=returns,
        lengths_agent_steps=[50] * len(returns),
    )


def evaluated(folder: Path, returns: list[float], checkpoint: int = 7, **games) -> Evaluation:
    evaluation = made_evaluation(returns, checkpoint, **games)
    add_evaluation(folder / "evaluation.json", evaluation)
    return evaluation


TRACE = {
    "checkpoint": 7,
    "env": {},
    "actions": "sampled",
    "seed": 0,
    "action_names": ["UP", "DOWN"],
    "games": [
        {
            "return": -1.0,
            "rewards": [0.0, 0.0, 1.0, -2.0],
            "actions": [0, 1, 0, 1],
            "probabilities": [[0.5, 0.5], [0.75, 0.25], [0.9, 0.1], [0.2, 0.8]],
            "values": None,
            "returns_to_go": [-0.9, -0.95, -1.0, -2.0],
        }
    ],
}


def filmed(folder: Path, name: str = "7", trace: dict | None = TRACE) -> None:
    path = folder / "videos" / f"{name}.mp4"
    with video_place(path), write_video(path, (64, 48)) as video:
        for i in range(60):
            video.write(np.full((48, 64, 3), 4 * i, np.uint8))
    if trace is not None:
        (folder / "videos" / f"{name}.json").write_text(json.dumps(trace))


class Page(HTMLParser):
    """Tags with their attributes, the visible text, and every id."""

    def __init__(self, path: Path):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.words: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]
