"""Our server beside vLLM's own two frontends, the engine alone, and the way of the seeds."""
