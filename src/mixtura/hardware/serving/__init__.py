"""Queueing under load: arrivals, replicas with continuous batching, closed forms, the smallest fleet.

Nothing here knows model shapes or chips: `step_times.StepTimes` holds the time of a step, from any source.
"""
