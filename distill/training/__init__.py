"""Students while they are trained: Bayesian ones, their plain rivals, and the sparse networks they turn into."""
