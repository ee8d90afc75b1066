"""Names subsets of data sets."""
