"""Chaos: seeded faults over the simulated cloud, and what has to hold whatever goes wrong.

python -m bench.chaos                       10,000 scenarios on all cores, the matrix, the verdict
python -m bench.chaos --one 1-4711          one scenario, told in full

__main__    the command: many scenarios in several processes
recipes     what is run: the built-in recipes, and some for what those do not use
scenarios   what goes wrong: a number becomes a recipe, faults aimed at a stage, and circumstances
speech      what the models say: drafts of word problems, right and wrong ones
world       one scenario played: a cloud, a run in virtual time, and everything that is left of it
checks      what has to hold            gold    ... of the answer            bills   ... of the usage
matrix      the table
"""
