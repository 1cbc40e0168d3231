"""Adapters to other programs; each module needs that program, or what it passes in, and nothing else."""
