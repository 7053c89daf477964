"""The terminal front: each command is one call to Router, Fleet or Configuration, and words around it."""
