"""Which schemas are taken, and as what patterns: a client's schema in, an AdmittedSchema out."""
