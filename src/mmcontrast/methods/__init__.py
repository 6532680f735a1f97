"""A folder per paper, and baselines; a file names its class METHOD, or several METHODS."""
