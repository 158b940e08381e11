"""Several frontend processes on one engine: for machines with many cores, where one is too few."""
