"""OpenAI's routes under `/v1`; errors are `{"error"}`."""
