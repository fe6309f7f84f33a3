"""timm's architecture strings: read as Architectures, and written."""
