"""Who can answer: the `ChatModel` protocol, its implementations, and the catalogue."""
