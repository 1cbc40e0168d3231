"""Measurements of the package beside its rivals; the scripts run as modules: `python -m benches.gateway`."""
