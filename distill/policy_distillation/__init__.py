"""The ways to distil a policy that "Distilling Policy Distillation" compares, and the laboratory that checks them."""
