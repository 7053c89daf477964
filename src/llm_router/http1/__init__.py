"""HTTP/1.1 on httptools, both ways: what a gateway needs and no more (docs/decisions/0010-http.md)."""
