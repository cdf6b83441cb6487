"""What of a model's text is reasoning: the marks that models write round it (`marks`), and where one counts (`splitter`).

What is reasoning by its place in a reply's JSON is decided by `models.openai.parts`.
"""
