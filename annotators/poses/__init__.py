"""People in a picture: readers of joints, and the skeletons drawn from them."""
