"""Routing a batch: queries, pool, policy, problem, plan, and the router that joins them."""
