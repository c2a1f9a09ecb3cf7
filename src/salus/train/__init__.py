"""Recipes, stages, checkpoints."""
