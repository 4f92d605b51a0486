"""A log through the parser and the policy again."""
