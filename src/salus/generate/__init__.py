"""Typed answers: statements with evidence, verified."""
