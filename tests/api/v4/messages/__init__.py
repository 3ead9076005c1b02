"""Messages of the app's server: sent, recalled, changed, looked up."""
