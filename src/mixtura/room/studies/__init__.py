"""Claims about GPUs, LPUs and wafers, each checked by a program: one module per study."""
