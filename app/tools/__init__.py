"""Constrained JSON: which schemas are taken, the pattern they become, and the check afterwards."""
