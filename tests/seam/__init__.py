"""A second implementation of the losses, by ids and rules: slower, shorter, and an oracle for the first."""
