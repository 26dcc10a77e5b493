"""Random search: candidates are drawn from a prior, and the best of them must show their score again.

The best score of many single episodes is mostly luck. So the best candidates of the search become finalists, who play
fresh episodes in rounds of equal cost. Each of these rounds keeps a quarter of its candidates (successive halving,
Jamieson and Talwalkar 2016, with a factor of 4). At last the winner alone plays fresh episodes. Only the winner's last
mean is free of selection bias.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import Field

from jaxpg.core.errors import UserError
from jaxpg.core.types import Episodes, Experience, Params, Population
from jaxpg.core.validation import STRICT, NonNegativeInt, PositiveFloat, PositiveInt
from jaxpg.learners.base import Ingredients, Learner, LearnerKind, Metrics, Sizes
from jaxpg.learners.episode_counts import add_episodes, best_scored, missing_episodes
from jaxpg.machine import memory_estimate

KEPT_SHARE = 4
"""One in this many finalists reaches the next round, where each candidate plays this many times as many episodes."""


@dataclass(frozen=True, kw_only=True)
class RandomSearchConfig:
    """Random search."""

    __pydantic_config__ = STRICT

    candidates: Annotated[int, Field(ge=1, le=10_000_000)] = 1000
    """Policies that are drawn."""
    prior: Literal["uniform", "normal"] = "uniform"
    """Distribution of every weight: uniform on [0, prior_scale), or normal with standard deviation prior_scale."""
    prior_scale: PositiveFloat = 1.0
    """Scale of the prior."""
    episodes_per_candidate: PositiveInt = 1
    """Games of each candidate in the search."""
    finalists: NonNegativeInt = 64
    """Best candidates of the search, which play again; 0 takes the best candidate of the search as it is."""
    finalist_episodes: PositiveInt = 4
    """Fresh games of each finalist in the first round after the search."""
    winner_episodes: PositiveInt = 100
    """Fresh games of the winner at the end."""
    greedy: bool = True
    """Whether candidates take the most probable action; else they sample."""


class Round(NamedTuple):
    """One stage of the search."""

    candidates: int
    episodes: int
    """Episodes of each candidate."""


class RandomSearchState(NamedTuple):
    """Everything that the search needs to continue."""

    params: Params  # of the best candidate in the newest finished round
    round: jax.Array  # i32[]
    ids: jax.Array  # i32[candidates], best first; the candidates of this round are the first ones
    return_sums: jax.Array  # f32[candidates], sum of returns in this round, in the order of ids
    num_games: jax.Array  # i32[candidates], number of episodes in this round, in the order of ids
    search_returns: jax.Array  # f32[candidates] by id, mean return in the search
    best_return: jax.Array  # f32[], mean return of the best candidate in the newest finished round
    key: jax.Array  # typed PRNG key of the weights


def make_random_search(config: RandomSearchConfig) -> Learner:
    """Builds the learner.

    Raises:
      UserError: settings contradict each other.
    """
    learner = _RandomSearch(config)
    return Learner(
        init=learner.init,
        ask=learner.ask,
        tell=learner.tell,
        keeps_tape=False,
        greedy=config.greedy,
        episodes_to_play=learner.episodes_to_play,
        progress_metrics=("round", "scored"),
        report=learner.report,
        score="best_round",  # the best candidate of a later round has been tested more
        result=learner.result,
    )


class _RandomSearch:
    """The learner's functions for one configuration."""

    def __init__(self, config: RandomSearchConfig):
        self._config = config
        self._rounds = rounds_of(config)
        self._draw = jax.jit(jax.vmap(partial(draw_weights, config), in_axes=(None, None, 0)))

    def init(self, key: jax.Array, params: Params) -> RandomSearchState:
        candidates = self._config.candidates
        return RandomSearchState(
            params=params,
            round=jnp.zeros((), jnp.int32),
            ids=jnp.arange(candidates, dtype=jnp.int32),
            return_sums=jnp.zeros(candidates),
            num_games=jnp.zeros(candidates, jnp.int32),
            search_returns=jnp.zeros(candidates),
            best_return=jnp.zeros(()),
            key=key,
        )

    def ask(self, state: RandomSearchState, ids: jax.Array) -> Population:
        return self._draw(state.params, state.key, ids)

    def tell(
        self, state: RandomSearchState, experiences: Sequence[Experience], episodes: Episodes, progress: float
    ) -> tuple[RandomSearchState, Metrics]:
        del experiences, progress
        number = int(state.round)
        players, wanted = self._rounds[number]
        ids = np.asarray(state.ids)
        place = np.full(self._config.candidates, -1)
        place[ids] = np.arange(self._config.candidates)
        sums, counts = add_episodes(
            state.return_sums, state.num_games, place[episodes.candidate], episodes.episode_return
        )
        state = state._replace(return_sums=jnp.asarray(sums), num_games=jnp.asarray(counts))
        done = counts[:players] >= wanted
        metrics: Metrics = {"round": state.round, "scored": done.mean()}
        if done.all():
            state = _next_round(state, ids, sums[:players] / counts[:players], number)
            state = state._replace(params=jax.tree.map(lambda x: x[0], self.ask(state, state.ids[:1])))
            metrics |= {
                "best_round": number,
                "best_candidate": state.ids[0],
                "best_search_return": state.search_returns[state.ids[0]],
                "best_return": state.best_return,
            }
        return state, metrics

    def episodes_to_play(self, state: RandomSearchState) -> np.ndarray:
        number = int(state.round)
        if number == len(self._rounds):
            return np.zeros(0, np.int64)
        players, wanted = self._rounds[number]
        return missing_episodes(np.asarray(state.ids[:players], np.int64), state.num_games[:players], wanted)

    def result(self, state: RandomSearchState) -> tuple[Params, str]:
        number, rounds = int(state.round), len(self._rounds)
        if number == rounds:
            return state.params, ""
        if number:
            remark = f"the search is not over; this is the best candidate after {number} of {rounds} rounds"
            return state.params, remark

        def candidate(place: int) -> Params:  # in the first round the places are the ids
            return jax.tree.map(lambda x: x[0], self.ask(state, jnp.array([place], jnp.int32)))

        wanted = self._rounds[0].episodes
        return best_scored(state.return_sums, state.num_games, wanted, candidate, unfinished="the search")

    def report(self, metrics: dict[str, float]) -> str:
        if "best_return" not in metrics:
            return "the search is not over"
        line = f"best candidate {metrics['best_candidate']}: {metrics['best_search_return']:.1f} in the search"
        games_each = self._rounds[int(metrics["best_round"])].episodes
        fresh = f", {metrics['best_return']:.1f} a game over {games_each} fresh games"
        over = "" if metrics["best_round"] == len(self._rounds) - 1 else "; the search is not over"
        return line + (fresh if metrics["best_round"] else "") + over


def rounds_of(config: RandomSearchConfig) -> list[Round]:
    """Lists the rounds: the search, the finalists' rounds, and the winner's round.

    Raises:
      UserError: there are more finalists than candidates.
    """
    if config.finalists > config.candidates:
        raise UserError(
            f"random_search.finalists: {config.finalists} is more than the {config.candidates} candidates there are"
        )
    rounds = [Round(config.candidates, config.episodes_per_candidate)]
    players, episodes = config.finalists, config.finalist_episodes
    while players > 1:
        rounds.append(Round(players, episodes))
        players, episodes = -(-players // KEPT_SHARE), episodes * KEPT_SHARE
    if players == 1:
        rounds.append(Round(1, config.winner_episodes))
    return rounds


def draw_weights(config: RandomSearchConfig, like: Params, key: jax.Array, candidate: jax.Array) -> Params:
    """Draws a candidate's weights, a pure function of the search's key and the candidate's id.

    So weights need not be stored: the id is enough to draw them again.

    Args:
      config: the prior.
      like: params with the structure and shapes to draw.
      key: the state's key.
      candidate: ``i32[]``.
    """
    leaves, tree = jax.tree.flatten(like)
    keys = jax.random.split(jax.random.fold_in(key, candidate), len(leaves))
    sample = jax.random.uniform if config.prior == "uniform" else jax.random.normal
    drawn = [config.prior_scale * sample(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(tree, drawn)


def _next_round(state: RandomSearchState, ids: np.ndarray, means: np.ndarray, number: int) -> RandomSearchState:
    """Ends a round: sorts its candidates by their mean return, best first, and begins the next round.

    The sort is stable, so that of two equal candidates the earlier one stays ahead.

    Args:
      state: the state at the end of the round.
      ids: ``i64[candidates]``, as in the state.
      means: mean return of each of the round's candidates, in the order of ids.
      number: the round's number; 0 is the search.
    """
    order = np.argsort(-means, kind="stable")
    players = len(means)
    ids = np.concatenate([ids[:players][order], ids[players:]])
    search_returns = state.search_returns
    if number == 0:
        search_returns = jnp.zeros_like(search_returns).at[ids].set(means[order])
    return state._replace(
        round=state.round + 1,
        ids=jnp.asarray(ids, jnp.int32),
        return_sums=jnp.zeros_like(state.return_sums),
        num_games=jnp.zeros_like(state.num_games),
        search_returns=search_returns,
        best_return=jnp.float32(means[order[0]]),
    )


def _make(ingredients: Ingredients[RandomSearchConfig]) -> Learner:
    return make_random_search(ingredients.config)


def _memory(config: RandomSearchConfig, sizes: Sizes) -> list[memory_estimate.Part]:
    games = max(candidates * episodes for candidates, episodes in rounds_of(config))
    return [
        memory_estimate.candidates(sizes.num_lanes, sizes.weight_bytes),
        memory_estimate.queued_episodes("random_search.episodes_per_candidate", games),
    ]


RANDOM_SEARCH = LearnerKind(
    config=RandomSearchConfig,
    make=_make,
    for_playing=lambda config: replace(config, finalists=min(config.finalists, config.candidates)),
    memory=_memory,
    search_episodes=lambda config: config.episodes_per_candidate,
)
