"""An algorithm on a set of questions, and the files of its results."""
