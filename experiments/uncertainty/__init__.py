"""Error bars that mean something: regression networks that say how far off they may be."""
