"""Work that is larger than one call: files of queries, routed and executed."""
