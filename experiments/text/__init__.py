"""Find the rare class among texts: a two-channel TextCNN, its losses and its decisions."""
