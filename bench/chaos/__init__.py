"""Chaos testing: seeded faults in the simulated cloud, and the invariants that every run must keep.

python -m bench.chaos                       10,000 scenarios on all cores, the matrix and the verdict
python -m bench.chaos --one 1-4711          one scenario in full detail

__main__    the command, which runs many scenarios in several processes
recipes     the recipes under test: the built-in ones, and others for features that those do not use
scenarios   maps a number to a scenario: a recipe, faults aimed at a stage, and circumstances
speech      the models' replies: drafts of word problems, right and wrong ones
world       plays a scenario: a cloud, runs in virtual time, and a record of both
checks      the invariants of runs      gold    ... of answers      bills   ... of usage
judge       plays and checks a scenario in a worker process
matrix      the table of results
worst_case  compares forecasts of random recipes with the bill
"""
