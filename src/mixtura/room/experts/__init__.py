"""The experts of real models: what their routers choose, what a layer takes, on the machine where this runs."""
