"""``evaluator=supernet``: one set of shared weights that every member of a space is measured with."""
