"""Which kind of work is this: rules on hard evidence, then the encoder, then Mission Control."""
