"""``effnas transfer``: several networks fine-tuned on several data sets."""
