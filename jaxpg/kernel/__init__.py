"""The rollout kernel: acting, stepping, and who plays in which lane."""
