"""Past one process: Ray Serve runs replicas of the application, one front stands before them."""
