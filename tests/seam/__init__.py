"""A second implementation of the losses, by ids and rules: an oracle for the first."""
