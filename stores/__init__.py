"""Where features live and how they are fetched: Delta tables, FAISS indexes, LMDB views."""
