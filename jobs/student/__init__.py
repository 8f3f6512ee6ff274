"""The parts of `jobs.train_student`: what it learns from, how it learns, and what it writes."""
