"""Pictures of requests: `image_url` parts in, decoded pictures out.

`loader.py` is the way in; nothing in here knows of messages, prompts or the engine.
"""
