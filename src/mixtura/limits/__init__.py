"""Rate-limit windows: what an organisation may ask of a model per minute and per day."""
