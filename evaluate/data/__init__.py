"""The user's images: found, decoded, normalised, split."""

from .image_data import ImageData as ImageData
