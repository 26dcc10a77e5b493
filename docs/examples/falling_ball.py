"""An environment of your own, written in JAX: a paddle catches falling balls."""

import jax
import jax.numpy as jnp

import jaxpg

ROWS, COLUMNS = 6, 5


def draw(row, column, paddle):
    """Returns the picture: a channel for the ball and one for the paddle."""
    picture = jnp.zeros((ROWS, COLUMNS, 2), bool)
    return picture.at[row, column, 0].set(True).at[ROWS - 1, paddle, 1].set(True)


@jaxpg.register_jax_environment("falling_ball")
def falling_ball(config):
    """Makes one lane; ``config`` is the section ``env`` of the run's configuration."""

    def reset(key):
        state = (0, jax.random.randint(key, (), 0, COLUMNS), COLUMNS // 2)
        return state, draw(*state)

    def step(key, state, action):
        row, column, paddle = state
        state = (row + 1, column, jnp.clip(paddle + action - 1, 0, COLUMNS - 1))
        lands = row + 1 == ROWS - 1
        reward = jnp.where(lands, jnp.where(column == state[2], 1.0, -1.0), 0.0)
        return state, jaxpg.JaxStep(draw(*state), reward, terminated=lands)

    names = ("LEFT", "STAY", "RIGHT")
    return jaxpg.JaxEnvironment(reset, step, num_actions=3, action_names=names)
