"""The parts of `python -m jobs.train_clip`: data, tower features, fits, measures and the card of lore-clip-tiny."""
