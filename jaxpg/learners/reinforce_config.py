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
    """Agent steps that every lane plays in one iteration (T)."""
    discount: Fraction = 0.99
    """Weight of a reward one agent step later."""
    weighting: Literal["return_to_go", "total_minus_step"] = "return_to_go"
    """The credit of an action. return_to_go counts the discounted rewards from the action on. total_minus_step is the
    whole return of the game minus the number of the agent step in the game, a beginner's estimator kept for comparison;
    it learns only from games that lie within one rollout."""
    td_lambda: Fraction = 1.0
    """Mix of full returns (1) and values (0) in the return-to-go; below 1 needs the value baseline."""
    baseline: Literal["none", "batch", "ema", "value"] = "value"
    """What is subtracted from the return: nothing (none), the batch's mean (batch), a running mean (ema), or the output
    of a value head (value). batch and ema also divide by the standard deviation; ema uses the batch's own deviation
    where that is larger."""
    ema_decay: Fraction = 0.99
    """How slowly the running mean and deviation of the return forget (ema baseline, normalize_value): each batch
    multiplies the weight of all earlier batches by this number. The first batch alone determines their start."""
    cut_at_reward: bool = False
    """Whether any nonzero reward ends the credit, as suits a game of points such as Pong."""
    cut_at_life_loss: bool = False
    """Whether a lost life ends the credit."""
    reward_transform: RewardTransform = "none"
    """What the learner sees of a reward: the reward itself (none), the reward clipped to [-1, 1] (clip; Mnih et al.
    2015), or its signed root sign(r) (sqrt(|r| + 1) - 1) (root; Pohlen et al. 2018). Reported returns are never
    transformed."""
    reward_scale: PositiveFloat = 1.0
    """Factor on the rewards that the learner sees. It should make returns-to-go of order 1, so that the value loss does
    not outweigh the policy loss."""
    normalize_advantage: bool = True
    """Whether advantages are standardised over the batch (value baseline only)."""
    normalize_value: bool = False
    """Whether the value head learns standardised returns, by their running mean and deviation. One recipe then fits
    games that count in ones and games that count in thousands (van Hasselt et al. 2016, without their rescaled head).
    The values that videos show are then standardised too."""
    normalize_observations: bool = False
    """Whether inputs are standardised by the mean and standard deviation of all earlier inputs, and clipped to
    [-10, 10]. What is constant on the screen then becomes 0 and has no influence on learning. The metric
    input_clip_fraction is the share of inputs that the clip bounds."""
    entropy_bonus: NonNegativeFloat = 0.01
    """Weight of the policy's entropy in the loss at the start, against premature certainty."""
    final_entropy_bonus_fraction: Fraction = 0.1
    """Entropy bonus at the end of run.schedule_agent_steps, as a share of the bonus at the start; linear in between."""
    value_coefficient: NonNegativeFloat = 0.5
    """Weight of the value loss."""
    epochs: PositiveInt = 1
    """Passes over each batch. One pass does not clip; more passes use the clipped ratio."""
    minibatch_agent_steps: NonNegativeInt = 0
    """Agent steps in one update; 0, or a number larger than the batch, for the whole batch. jaxpg takes the nearest
    number that is a multiple of the lanes and divides the batch."""
    clip_epsilon: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Half-width of the ratio's interval when epochs > 1."""
    probability_clip: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """The loss clips probabilities to [this, 1 - this], so that actions outside teach nothing; 0 for no clip."""
    chunk_agent_steps: PositiveInt = 512
    """Agent steps whose gradient is computed at once on CPU; few enough that buffers stay in the processor's cache."""

    def agent_steps_per_update(self, num_lanes: int) -> int:
        """Agent steps of one update: ``minibatch_agent_steps``, or the whole batch where that is 0 or too large."""
        batch = self.rollout_agent_steps * num_lanes
        return min(self.minibatch_agent_steps or batch, batch)
