"""What a compiled policy is handed over as, beside the header: one file a kind."""
