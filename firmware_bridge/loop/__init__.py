"""The control loop and all it touches in a period: policy, clock, counting."""
