"""The foundations that every other package imports: types, errors, number ranges and registries."""
