"""Rows of a suite made by hand: what the tests of its tables and its page stand on."""

from jaxpg.scores.suite_file import SuiteRow, SuiteScore


def made_row(recipe: str, game: str, seed: int, sampled: float | None, human: float | None = None, **changes):
    """A finished run; without a score if ``sampled`` is None."""
    scores = {} if sampled is None else {"sampled": SuiteScore(mean=sampled, human_normalized=human, episodes=5)}
    row = {
        "folder": f"{recipe}-{game}-{seed}",
        "failure": None,
        "ended": "budget of agent steps used",
        "agent_steps": 1000,
        "seconds": 60.0,
        "curve": [(100.0, 0.0), (1000.0, float(seed))],
    }
    return SuiteRow(recipe=recipe, game=game, seed=seed, scores=scores, **{**row, **changes})


def made_rows() -> list[SuiteRow]:
    """Two recipes on two games with two seeds, of which one run failed, and a game without a human's score."""
    rows = [
        made_row(recipe, game, seed, better + 10 * seed, (better + seed) / 10)
        for recipe, better in (("plain", 1.0), ("better", 2.0))
        for game in ("Pong", "Breakout")
        for seed in (1, 2)
    ]
    rows[1] = made_row("plain", "Pong", 2, None, failure="a | weight became NaN", ended=None)
    return [*rows, made_row("plain", "CartPole-v1", 1, 7.0)]
