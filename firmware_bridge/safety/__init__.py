"""What may happen, and how it ends: states, requests, limits, checks, the brake."""
