"""Mutated dialects: the replies of the table, changed at random, read whole, watched and late.

python -m bench.fuzz --minutes 5      as many as fit
python -m bench.fuzz --case 12345     one again, with what was sent

mutate      the changes: bytes, events, values of the JSON in them
check       one reply read in every way, and what may come of it
__main__    the command
"""
