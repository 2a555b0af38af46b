"""Generated requests over every route of the OpenAPI document, against a live server."""
