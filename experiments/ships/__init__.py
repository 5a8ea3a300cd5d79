"""Finding ships in satellite images: pixels of a rare class, scored as objects."""
