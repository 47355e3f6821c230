"""Made-up data of four kinds of services, for `recsys init --with-data`, pages of the documentation and tests."""
