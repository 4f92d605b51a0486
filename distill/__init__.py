"""Distil a teacher policy into a sparse Bayesian student."""
