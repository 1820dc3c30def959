"""Do heatmaps show what the model decides by? Perturb where they are hot and watch its probability."""
