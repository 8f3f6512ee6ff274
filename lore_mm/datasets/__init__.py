"""Labelled data sets by their public formats; `open_dataset` comes with them."""
