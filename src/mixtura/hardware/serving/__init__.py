"""What requests wait for under load: arrivals, replicas with continuous batching, closed forms, the smallest fleet.

It knows no shapes and no chips: a `pace.Pace` says how long a step takes, whoever worked that out.
"""
