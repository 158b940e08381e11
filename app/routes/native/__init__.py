"""The seeds' own routes; errors are `{"detail"}`."""
