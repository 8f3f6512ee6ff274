"""Training a judge: rows, rewards, and the runs of TRL and sentence-transformers behind sft, rl and distil."""
