"""What everything else stands on: types, errors, ranges of numbers, and registries."""
