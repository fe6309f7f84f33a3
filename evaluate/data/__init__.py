"""The user's images: found, decoded, normalised, split."""

from .dataset_images import DatasetImages as DatasetImages
from .image_data import ImageData as ImageData
