"""From arrivals to leases: prediction, admission, batching, queue and dispatch."""
