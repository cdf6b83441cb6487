"""Does a mixture help? Tasks, paired statistics and what came of them."""
