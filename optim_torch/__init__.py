"""DessiLBI and the loss landscape under BatchNorm. In work: there is nothing to run here yet."""
