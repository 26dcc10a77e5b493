"""The card of a shared run."""

from dataclasses import replace

from jaxpg.share.card import About, card_of
from tests.report_runs import made_evaluation


def test_the_card_names_the_member_of_a_population_that_played() -> None:
    about = About("pole", "CartPole-v1", 7, ["LEFT", "RIGHT"], [], "", "", has_video=False)
    alone = made_evaluation([1.0, 2.0])
    card = card_of(about, [replace(alone, member=3)])
    assert "seed 0, member 3" in card
    assert f"| {alone.actions}, member 3 | 0 |" in card
    assert "member" not in card_of(about, [alone])
