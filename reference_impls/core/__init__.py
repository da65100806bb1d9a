"""What belongs to no paper: types, draws, processes, conversions, grids, the sampling loop and the training loop."""
