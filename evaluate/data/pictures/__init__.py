"""One picture, whatever holds it: opened, and its pixels brought to 8 bits."""
