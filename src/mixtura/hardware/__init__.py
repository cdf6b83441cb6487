"""How fast and how dear would it be: shapes of models, chips, step models, queues. It knows nothing of mixtures."""
