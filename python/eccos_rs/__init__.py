"""Route batches of queries to a pool of LLMs at least cost, under a promised quality and hard workload limits."""
