"""The parts of `python -m jobs.train_vlm`: what lore-vlm-tiny learns from, how, and how well."""
