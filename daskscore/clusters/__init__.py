"""Where the workers come from: one module per kind of cluster, each a function of the job that yields a Client."""
