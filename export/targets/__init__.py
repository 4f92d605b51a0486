"""The machines a policy is compiled for: what they are, how they are linked for, and cores that run them and count."""
