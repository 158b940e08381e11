"""Keys with an identity: who calls, what the key allows, and how much of that is left."""
