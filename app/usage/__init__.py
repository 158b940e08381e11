"""What each key has used: counted in memory, kept in a database that replicas share."""
