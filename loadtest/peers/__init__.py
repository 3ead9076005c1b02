"""Other servers, put to the same work as the gateway: what a team would take instead, and the limit."""
