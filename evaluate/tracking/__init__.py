"""Where trials and epochs are recorded besides: W&B, MLflow, Trackio, or a tracker of the user's own."""
