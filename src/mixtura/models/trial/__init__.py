"""Six small calls that show how a server answers: whole, streamed, with tools, in JSON, with reasoning, too long."""
