"""The policy as C: what each layer becomes, and the header around it."""
