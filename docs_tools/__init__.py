"""Commands that write documents: the changelog, the API reference, the picture of the terminal."""
