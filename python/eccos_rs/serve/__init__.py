"""The gateway and the replay server; both speak the OpenAI protocol."""
