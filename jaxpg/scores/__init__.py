"""How good a policy is: statistics of evaluated episodes, and the file that stores them."""
