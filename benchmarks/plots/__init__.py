"""Plots: pure functions of the records, as SVG that reads in light and dark, on paper and by ear."""
