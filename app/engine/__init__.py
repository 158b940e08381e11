"""The seam to vLLM: the rest of the server knows only `base.Engine`."""
