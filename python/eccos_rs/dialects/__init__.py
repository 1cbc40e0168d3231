"""The protocols of clients and endpoints: Chat Completions, Responses, Messages, Gemini."""
