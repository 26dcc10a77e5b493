"""Whole runs on EnvPool's environments besides Atari, through all commands."""

from pathlib import Path

import pytest

from jaxpg.core.errors import UserError
from jaxpg.evaluate import command as evaluate
from jaxpg.report import command as report
from tests.runs import games, records, run, summary, untimed

LANES, ROLLOUT = 4, 32
SMALL = [
    *("--env.num-lanes", str(LANES), "--reinforce.rollout-agent-steps", str(ROLLOUT), "--env.num-threads", "1"),
    *("--reinforce.minibatch-agent-steps", "64", "--run.schedule-agent-steps", "1024"),
]


@pytest.mark.long
@pytest.mark.parametrize("game", ["LunarLander-v3", "FrozenLake-v1", "MiniGrid-Empty-5x5-v0", "highway-v0"])
def test_a_run_is_resumed_to_the_bit_evaluated_and_reported(
    game: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder, iterations in ((whole, 8), (parts, 5)):
        budget = str(iterations * LANES * ROLLOUT)
        run("--env.game", game, *SMALL, "--run.dir", str(folder), "--run.budget-agent-steps", budget)
    run("--resume", str(parts), "--run.budget-agent-steps", str(8 * LANES * ROLLOUT))
    assert untimed(records(parts)) == untimed(records(whole))
    assert untimed(games(parts)) == untimed(games(whole))
    assert summary(parts)["agent_steps"] == 8 * LANES * ROLLOUT
    capsys.readouterr()
    assert evaluate([str(whole), "--episodes", "4"]) == 0
    assert "human" not in capsys.readouterr().out
    with pytest.raises(UserError, match=r"env.actions: the policy was trained for the actions [A-Z_]+, "):
        evaluate([str(whole), "--episodes", "4", "--env.actions", "1", "0"])
    assert report([str(whole), "--out", str(tmp_path / "page.html")]) == 0
    assert "human" not in (tmp_path / "page.html").read_text()
