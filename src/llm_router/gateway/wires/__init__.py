"""One module per endpoint family: a body becomes a request, pieces of an answer become the wire's bytes."""
