"""The experts of real models: the choices of their routers, and the time of a layer on this machine."""
