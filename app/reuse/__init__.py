"""Replies that need not be computed twice: shared in flight, kept, or replayed."""
