"""The solver alone: numpy in, numpy out; `assign`, `certify` and `frontier`."""
