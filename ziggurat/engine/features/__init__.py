"""Features of any number of images, into a store.

``sources`` finds the images, ``loading`` reads them in workers and makes batches of equal sizes, ``budget`` says how
much the features take, ``processes`` shares the images, ``run`` computes and writes.
"""
