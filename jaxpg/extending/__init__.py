"""How a user adds policies, observations, environments, learners and writers."""
