"""An environment of your own: the agent walks to the goal on a grid."""

import gymnasium
import numpy as np


class GridWorld(gymnasium.Env):
    """Actions move up, down, left or right. The goal gives 1, any other move -0.01."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 6}
    moves = np.array([(-1, 0), (1, 0), (0, -1), (0, 1)])

    def __init__(self, size: int = 5, render_mode: str | None = None):
        self.size, self.render_mode = size, render_mode
        self.action_space = gymnasium.spaces.Discrete(4)
        self.observation_space = gymnasium.spaces.Box(-1, 1, (4,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        """Puts the agent and the goal on two different squares."""
        super().reset(seed=seed)  # seeds self.np_random, from which all chance comes
        squares = self.np_random.choice(self.size**2, 2, replace=False)
        self.agent, self.goal = np.stack(np.divmod(squares, self.size), axis=1)
        return self.observe(), {}

    def step(self, action: int):
        """Moves the agent, which stays on the grid."""
        self.agent = np.clip(self.agent + self.moves[action], 0, self.size - 1)
        arrived = bool((self.agent == self.goal).all())
        return self.observe(), 1.0 if arrived else -0.01, arrived, False, {}

    def observe(self) -> np.ndarray:
        """Rows and columns of the agent and of the goal, in [-1, 1]."""
        places = np.concatenate([self.agent, self.goal])
        return (places / (self.size - 1) * 2 - 1).astype(np.float32)

    def render(self) -> np.ndarray:
        """A picture for videos, a pixel a square: a green goal, an orange agent."""
        picture = np.full((self.size, self.size, 3), 40, np.uint8)
        picture[tuple(self.goal)] = (90, 180, 90)
        picture[tuple(self.agent)] = (250, 178, 80)
        return picture


gymnasium.register("GridWorld-v0", GridWorld, max_episode_steps=50)
