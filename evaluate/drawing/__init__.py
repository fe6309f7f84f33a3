"""What all figures share: colours and letters, axes that hold their points, legends beside them, names that fit."""
