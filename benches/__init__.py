"""Measurements of the package beside its rivals; each script runs as a module: `python -m benches.gateway`."""
