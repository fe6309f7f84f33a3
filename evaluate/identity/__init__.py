"""What makes two runs the same one, and what differs between two that are not."""

from .changes import describe_changes as describe_changes
from .content import describe_content as describe_content
from .content import describe_files as describe_files
