"""One module a kind of aggregator: `answer(run, aggregator, drafts)` turns drafts into the answer.

What a kind asks of models stands in `mixtura/kinds.py`, under the same name.
"""
