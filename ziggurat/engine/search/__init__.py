"""A search for images like a query in a store of features.

Read the files in this order: ``network`` makes the store's network again, ``queries`` computes the vectors of the
queries, and ``results`` writes what ``backbones.store.search`` found. ``sheet`` draws it.
"""
