"""Does a mixture help on questions that nothing was chosen by? Recorded right and wrong answers, half against half."""
