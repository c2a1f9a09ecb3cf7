"""The language model, and the facts that code looks up for it."""
