"""The OpenAI wire over pooled connections."""
