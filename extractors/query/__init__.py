"""The engines that understand queries, and their parts; `extractors.queries` is their door."""
