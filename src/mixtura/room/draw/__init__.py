"""Charts as SVG: scales, inks, lines, bands, bars."""
