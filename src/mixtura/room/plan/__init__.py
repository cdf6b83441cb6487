"""Plans the deployment of recipes: their calls, the servers of those calls, latency under load, choice of machines."""
