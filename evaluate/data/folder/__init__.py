"""A folder of images: which of its folders are parts and classes, and which of its files are images."""
