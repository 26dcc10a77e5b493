"""The model card of a shared run: what people read, and what leaderboards read."""

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from ruamel.yaml import YAML

from jaxpg.scores.evaluation_file import Evaluation
from jaxpg.scores.human_scores import has_human_score

TASK = "reinforcement-learning"
MOST_ROWS = 50
"""Evaluations on the card. The file evaluation.json has all of them."""


class About(NamedTuple):
    """What the card says besides scores."""

    name: str
    game: str
    checkpoint: int
    actions: Sequence[str]
    imports: Sequence[str]
    """Modules and files that the policy needs and that are not shared."""
    how_to_get: str
    """Shell command that fetches the run; empty where there is none."""
    note: str
    """Markdown of the author."""
    has_video: bool


def card_of(about: About, evaluations: Sequence[Evaluation]) -> str:
    """Writes the card: metadata in the hub's format between two lines of dashes, then Markdown.

    The evaluation with the most episodes comes first, because leaderboards read the first score.
    """
    newest_first = evaluations[::-1]
    shown = sorted(newest_first, key=lambda one: -one.episodes)[:MOST_ROWS]
    metadata: dict[str, Any] = {
        "library_name": "jaxpg",
        "pipeline_tag": TASK,
        "tags": [*dict.fromkeys([TASK, "deep-reinforcement-learning", "jaxpg", about.game])],
    }
    if shown:
        metadata["model-index"] = [{"name": about.name, "results": [_result(about.game, one) for one in shown]}]
    stream = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style, yaml.sort_base_mapping_type_on_output = False, False  # type: ignore[assignment]
    yaml.width = 10_000
    yaml.dump(metadata, stream)
    parts = [f"---\n{stream.getvalue()}---", f"# {about.name}", _introduction(about)]
    parts += [about.note.strip()] if about.note.strip() else []
    parts += ["## Scores", _table(shown) if shown else "This checkpoint has not been evaluated."]
    return "\n\n".join([*parts, "## Use", _use(about)]) + "\n"


def _result(game: str, one: Evaluation) -> dict[str, Any]:
    """One evaluation in the hub's format. The value is the mean and the standard deviation of the returns."""
    metrics: list[dict[str, Any]] = [
        {
            "type": "mean_reward",
            "value": f"{one.mean:.2f} +/- {np.std(one.returns):.2f}",
            "name": "mean_reward",
            "verified": False,
        }
    ]
    if one.human_normalized is not None:
        value = round(one.human_normalized, 4)
        metrics.append({"type": "human_normalized_score", "value": value, "name": "human-normalised score"})
    return {
        "task": {"type": TASK, "name": TASK},
        "dataset": {"name": game, "type": game, "config": _protocol(one), "args": _settings(one)},
        "metrics": metrics,
    }


def _protocol(one: Evaluation) -> str:
    return f"{one.episodes} episodes, {one.actions} actions, seed {one.seed}{_whose(one)}"


def _whose(one: Evaluation) -> str:
    """Which member of a population played."""
    return "" if one.member is None else f", member {one.member}"


def _settings(one: Evaluation) -> dict[str, Any]:
    """The emulators' settings that scores depend on and that are single values."""
    names = ["backend", "num_lanes", "max_episode_agent_steps"]
    names += ["frame_skip", "sticky_action_probability", "noop_max"] if has_human_score(one.env) else []
    return {name: one.env[name] for name in names if isinstance(one.env.get(name), str | int | float)}


def _introduction(about: About) -> str:
    text = (
        f"A policy that plays {about.game}, trained with jaxpg: checkpoint {about.checkpoint}. Its actions are "
        f"{', '.join(about.actions)}. `config.yaml` has every setting of the training."
    )
    return text + (" `replay.mp4` shows a game." if about.has_video else "")


def _table(evaluations: Sequence[Evaluation]) -> str:
    lines = [
        "| actions | seed | episodes | mean | 95 % interval | median | least | most | human-normalised |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in evaluations:
        between = "-" if one.mean_low is None else f"{one.mean_low:.2f} to {one.mean_high:.2f}"
        human = "-" if one.human_normalized is None else f"{one.human_normalized:.3f}"
        numbers = f"{one.mean:.2f} | {between} | {one.median:.2f} | {one.min:.2f} | {one.max:.2f} | {human}"
        lines.append(f"| {one.actions}{_whose(one)} | {one.seed} | {one.episodes} | {numbers} |")
    return "\n".join(lines)


def _use(about: About) -> str:
    run = about.how_to_get.rpartition("--out ")[2] if about.how_to_get else "FOLDER"
    flags = f" --imports {' '.join(about.imports)}" if about.imports else ""
    lines = [about.how_to_get] if about.how_to_get else []
    lines += [f"python -m jaxpg.evaluate {run}{flags}", f"python -m jaxpg.record {run}{flags}"]
    code = "```sh\n" + "\n".join(lines) + "\n```"
    if not about.imports:
        return code
    return f"{code}\n\nThe policy needs code that is not part of this repository: {', '.join(about.imports)}."
