"""Routing beside what runs: decisions recorded, a share rolled out, nothing of it in the answers."""
