"""The parts of jobs.train_tagger: data, learner, fit, distil, export, measure, card."""
