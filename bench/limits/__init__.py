"""What limits cost and what keeping them brings, beside the groq SDK's pipeline: run `python -m bench.limits`."""
