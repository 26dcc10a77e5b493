"""Policies: networks, what they see, and how convolutions are computed."""
