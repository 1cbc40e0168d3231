"""The protocols that clients speak: Chat Completions, Responses, Messages."""
