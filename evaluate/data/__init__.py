"""The user's images: found, decoded, normalised, split."""
