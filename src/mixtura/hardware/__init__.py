"""Speed and cost of models on machines: model shapes, chips, step models, queues. Nothing here knows about mixtures."""
