"""The settings of REINFORCE."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from jaxpg.core.validation import STRICT, Fraction, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from jaxpg.learners.returns import RewardTransform


@dataclass(frozen=True, kw_only=True)
class ReinforceConfig:
    """The policy-gradient learner."""

    __pydantic_config__ = STRICT

    rollout_agent_steps: PositiveInt = 32
    """Agent steps in every lane between two updates (T)."""
    discount: Fraction = 0.99
    """Weight of a reward one agent step later."""
    weighting: Literal["return_to_go", "total_minus_step"] = "return_to_go"
    """What an action is credited with. total_minus_step, the game's whole return minus the number of the agent step in
    it, is a beginner's estimator kept for comparison; it learns from games that lie whole within one rollout."""
    td_lambda: Fraction = 1.0
    """Mix of full returns (1) and values (0) in the return-to-go; below 1 needs the value baseline."""
    baseline: Literal["none", "batch", "ema", "value"] = "value"
    """What is subtracted from the return: nothing, the batch's mean, a running mean, or a value network.
    batch and ema also divide by the standard deviation; ema by the batch's own where that is larger."""
    ema_decay: Fraction = 0.99
    """How slowly the running mean and deviation of the return forget (ema baseline, normalize_value): with each batch
    that says anything, all before it weigh this much. The first batch starts them."""
    cut_at_reward: bool = False
    """Whether any nonzero reward ends the credit, as suits a game of points such as Pong."""
    cut_at_life_loss: bool = False
    """Whether a lost life ends the credit."""
    reward_transform: RewardTransform = "none"
    """What the learner sees of a reward: all of it, clipped to [-1, 1] (Mnih et al. 2015), or its signed root,
    sign(r) (sqrt(|r| + 1) - 1) (Pohlen et al. 2018). Reported returns are never transformed."""
    reward_scale: PositiveFloat = 1.0
    """Factor on what the learner sees, so that returns-to-go are of order 1 and the value loss leaves room for the
    policy's."""
    normalize_advantage: bool = True
    """Whether advantages are standardised over the batch (value baseline only)."""
    normalize_value: bool = False
    """Whether the value head learns the return minus its running mean, over its running deviation, so that one recipe
    fits games that count in ones and in thousands (van Hasselt et al. 2016, without their rescaled head). The values
    that videos show are then on that scale."""
    normalize_observations: bool = False
    """Whether inputs are standardised by the mean and standard deviation of all seen before, and clipped to [-10, 10].
    What is constant on the screen is then 0 and teaches nothing, and what moves does."""
    entropy_bonus: NonNegativeFloat = 0.01
    """Weight of the policy's entropy at the start, against premature certainty."""
    final_entropy_bonus_fraction: Fraction = 0.1
    """The same at the end of run.schedule_agent_steps, as a share of the start; linear in between."""
    value_coefficient: NonNegativeFloat = 0.5
    """Weight of the value loss."""
    epochs: PositiveInt = 1
    """Passes over each batch; 1 is the plain score-function estimator, more use the clipped ratio."""
    minibatch_agent_steps: NonNegativeInt = 0
    """Agent steps in one update; 0 or more than there are for all. The nearest number that is a multiple of the lanes
    and divides the batch is taken."""
    clip_epsilon: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Half-width of the ratio's interval when epochs > 1."""
    probability_clip: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """Probabilities are clipped to [this, 1 - this] in the loss, so that actions beyond it teach nothing; 0 for no
    clip."""
    chunk_agent_steps: PositiveInt = 512
    """Agent steps differentiated at once on CPU, small enough that buffers stay in cache."""
