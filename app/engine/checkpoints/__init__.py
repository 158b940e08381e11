"""Where a model's files come from: local folders, hubs and GGUF files.

`checkpoint.resolve_checkpoint` is the door: settings in, vLLM's engine arguments out. Nothing in
here knows vLLM's engine, requests or HTTP.
"""
