"""What the drawn scenes are made of; see `experiments.ships.scenes`."""
