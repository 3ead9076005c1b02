"""The Server API on the admin port: signed HTTP in front of the services."""
