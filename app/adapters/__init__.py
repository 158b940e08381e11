"""LoRA adapters that are served beside the base model, and swapped while it runs."""
