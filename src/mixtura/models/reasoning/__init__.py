"""What of a model's text is reasoning: the marks that models write round it, and where such a mark counts.

What is reasoning by its place in a reply's JSON is decided by `models.openai.parts`.
"""
