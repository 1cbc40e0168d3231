"""Pools: who may answer, read from a file or made of names."""
