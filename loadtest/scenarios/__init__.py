"""The scenarios that come with the tool; examples for one's own."""
