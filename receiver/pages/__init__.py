"""The families of pages, one module each with `add(app, site)`; receiver.web lists them."""
