"""Light graph convolution over users, items and what items say."""
