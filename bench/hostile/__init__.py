"""Hostile replies: what one of them costs a run in memory, in time and in the event loop's attention.

python -m bench.hostile                     every kind, whole and streamed, as a table
python -m bench.hostile --only choices      the kinds whose name holds a word

__main__    the command
bodies      the replies, each as the pieces that a server writes
server      a server of raw bytes in a process of its own
measure     one run against it, in another process
"""
