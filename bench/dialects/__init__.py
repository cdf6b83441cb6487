"""What servers really send: a table of replies by the server that each is known from, and what becomes of them.

`python -m bench.dialects` asks each over HTTP and prints what came of it; `docs/dialects.md` is written from the table.
"""
