"""Weights, chat rendering and generation."""
