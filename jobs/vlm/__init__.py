"""The parts of `python -m jobs.train_vlm`: instructions, tower features, fits, measures and the card of lore-vlm-tiny."""
