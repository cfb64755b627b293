"""Heads: from features and a condition to outputs; one file each."""
